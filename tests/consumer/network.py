# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Run the distribution's DPDK programs on network devices in the lab, without an NVMe drive.

dpdk-testpmd sends packets, as primary, on virtio-net (modern, legacy) and e1000e. The secondaries
dpdk-proc-info and dpdk-pdump attach the device and exit. With the distribution's librte_bus_pci
transmission must stop when the first of them exits; with the patched one, which alone is exchanged,
it must go on. The packets are counted outside of the guest.
"""

import collections
import pathlib
import struct
import tempfile

from uiokit import common, distro
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import vm

HERE = common.TOP / "tests" / "consumer"
PROGRAMS = ("dpdk-testpmd", "dpdk-proc-info", "dpdk-pdump")
DRIVERS = ("net_virtio", "net_e1000", "net_pcap", "mempool_ring")
# QEMU's device and its PCI ID, by name.
DEVICES = {"virtio modern": ("virtio-net-pci,disable-legacy=on", "1af4:1041"),
           "virtio legacy": ("virtio-net-pci,disable-modern=on", "1af4:1000"),
           "e1000e": ("e1000e", "8086:10d3")}
# The length of the packets in each phase of tests/consumer/forward.
PHASES = {"before a secondary": 100, "dpdk-proc-info has exited": 200, "dpdk-pdump has exited": 300}
MASTER = 0x4
# So many packets that the driver has queued in one phase may leave in the next.
QUEUED = 256 + 32


def packages():
    """The programs, the drivers that they load, and the libraries of both."""
    recommended = distro.apt_cache("depends", "dpdk").replace("Recommends", "Depends").split()
    drivers = [name for name in recommended for driver in DRIVERS
               if name.startswith(f"librte-{driver.replace('_', '-')}")]
    return distro.depending(["dpdk-dev", *drivers],
                            r"librte-\S+\d|libpcap0\.8\S*|libdbus-1-3|ibverbs-providers")


def device_args(folder):
    """QEMU's arguments for the devices, and for a file of the packets that each has sent.

    A network without another port would take no packet.
    """
    words = []
    for index, (device, _) in enumerate(DEVICES.values()):
        words += ["-netdev", f"hubport,id=guest{index},hubid={index}",
                  "-netdev", f"hubport,id=other{index},hubid={index}",
                  "-object", f"filter-dump,id=dump{index},netdev=guest{index},maxlen=1,"
                  f"file={folder}/{index}", "-device", f"{device},netdev=guest{index}"]
    return words


def sent(path):
    """{length: number} of the packets in a file in pcap format."""
    count, data, at = collections.Counter(), path.read_bytes(), 24
    while at + 16 <= len(data):
        kept, length = struct.unpack_from("<II", data, at + 8)
        count[length] += 1
        at += 16 + kept
    return count


def run(unpacked, variant):
    """The lab's Result, and the packets sent by each device; variant: a folder, or None."""
    libraries, = (unpacked / "usr/lib").glob("*-linux-gnu")
    drivers, = libraries.glob("dpdk/pmds-*")
    take = [(unpacked / "usr/bin" / name, f"/usr/bin/{name}") for name in PROGRAMS]
    take += [(path, f"/{'drivers' if name in DRIVERS else name}/{path.name}")
             for name in (*DRIVERS, "mempool_dpaa")
             for path in drivers.glob(f"librte_{name}.so.*.*")]
    path = ":".join(str(folder) for folder in (variant, libraries, drivers) if folder)
    with tempfile.TemporaryDirectory(prefix="uio-network-") as folder:
        done = vm.boot(vm.Options(
            command=["/forward"], nvme=0, timeout=900, aslr=False, qemu_args=device_args(folder),
            uio=[pci_id for _, pci_id in DEVICES.values()], env={"LD_LIBRARY_PATH": path},
            take=[*take, (HERE / "forward", "/forward")]))
        return done, [sent(pathlib.Path(folder, str(index))) for index in range(len(DEVICES))]


def judge(variant, output, counts):
    """What is not as it must be; prints a line for each device and phase."""
    parts = output.split("\n# ")
    parts = [*parts, *DEVICES][:len(DEVICES)]
    for name, part, count in zip(DEVICES, parts, counts):
        lost = False
        for phase, length in PHASES.items():
            must_stop = variant == variants.STOCK and phase != "before a secondary"
            command = part.partition(f"{phase}: COMMAND ")[2].split()[:1]
            master = bool(command) and int(command[0], 16) & MASTER
            print(f"{variant}: {name}: {phase}: {count[length]} packets sent, bus master "
                  f"{'on' if master else 'OFF' if command else 'unknown'}", flush=True)
            lost |= command != [] and not master
            if not command or (count[length] <= QUEUED) != must_stop or lost != must_stop:
                yield f"{name}: {phase}"
        for secondary in PROGRAMS[1:]:
            if f"{secondary}: exit code 0, " not in part:
                yield f"{name}: {secondary} failed"


def main(argv):
    parser = arguments.parser("tests/consumer/network", __doc__)
    arguments.add_no_install(parser)
    parser.parse_args(argv)
    distro.need({**variants.NEED, **vm.NEED, **source.NEED})
    unpacked = distro.unpacked("testpmd", packages())
    build = variants.Build(source.get())
    if build.diagnosis != "affected":
        raise common.Skip(f"the distribution's {build.tree} is {build.diagnosis}")
    build.variants()
    failed = False
    for variant in (variants.STOCK, variants.PATCHED):
        with common.step(f"running dpdk-testpmd on {variant}"):
            done, counts = run(unpacked,
                               build.root / variant if variant == variants.PATCHED else None)
        wrong = list(judge(variant, done.stdout, counts))
        if wrong or done.code:
            print(f"{done.stdout}{done.stderr}network: {variant}: FAILED: exit code {done.code}; "
                  f"{'; '.join(wrong)}", flush=True)
        failed |= bool(wrong) or done.code != 0
    print(f"network: {'FAIL' if failed else 'PASS'}", flush=True)
    return common.FAILED if failed else common.PASSED
