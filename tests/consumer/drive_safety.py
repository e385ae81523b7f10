# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Show that pci_uio_secondary_autotest destroys no data, and works on each kind of drive.

safety  the autotest runs on drives that hold data; it is interrupted, killed, and a drive fails.
        The drives are files of this host, which are compared afterwards.
shapes  the autotest runs on eight kinds of emulated drives
vf      the autotest runs on SR-IOV VFs of a drive, one online and one offline
"""

import pathlib
import re
import tempfile

from uiokit import common, distro
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import guest_files, guest_python, qemu, vm

HERE = common.TOP / "tests" / "consumer"
# Seconds for the autotest in a guest, on a machine that is busy.
TIMEOUT = 900
# What its guests have in common.
GUEST = {"nvme": 0, "cpus": 1, "aslr": False, "timeout": TIMEOUT}
# How shapes and vf run the autotest.
CASES = {"PCI_UIO_SECONDARY_CASES": "control,exit_return,traffic_,io_,intr_"}
EAL_OPTIONS = ("-l", "0", "--iova-mode=pa", "--no-telemetry")

# In each step of tests/consumer/safety: what the test must print, and must not.
SAID = {
    "a whole run": (["COMMAND 0x0007\n", "- the device is left as it was found\n", "[exit 0]",
                     "[COMMAND 0007]"], ["not ok"]),
    "two runs in the same process": (["[passed: 2]"], ["not ok"]),
    "SIGTERM": (["# SKIP signal 15", "ok 2 - the device is left as it was found\n", "[exit 143]"],
                ["not ok"]),
    "the drive disappears, and a second run in the same process": (
        ["not ok 2 - the device is left as it was found", "1..0 # SKIP"], []),
    "a run that is killed": (["found enabled", "disabled before the attach", "[exit 0]"],
                             ["not ok"]),
    "the watchdog ends a run": (
        ["Bail out! watchdog: this case does not end: exit_many\n", "[exit 1]", "[exit 0]"],
        ["found enabled", "not ok"]),
    "the IOMMU translates addresses": (
        ["after a secondary # SKIP the IOMMU", "boot with iommu=pt", "[exit 0]"], ["not ok"]),
    "there is no INTx": (["has no INTx", "[exit 0]"], ["not ok"]),
    "a controller that does not answer": (
        ["BAR 0 reads as ones: device gone or asleep; reset it: echo 1 > ",
         "/sys/bus/pci/devices/0000:00:04.0/reset\n"], ["[exit 0]"]),
    "a controller that stops answering during a run": (
        ["left disabled, got 0000:00:04.0: gone: CC reads as ones, COMMAND 0x",
         "; reset it: echo 1 > /sys/bus/pci/devices/0000:00:04.0/reset\n"], ["[exit 0]"]),
    "a kernel that keeps bus master": (
        ["this kernel keeps bus master when", "the primary can recover # SKIP this kernel does not",
         "rte_eal_cleanup # SKIP this kernel does not", " 2 passed, 0 failed, 2 skipped\n",
         "[COMMAND 0003]"], []),
    "a device that breaks after its last case": (
        ["not ok 3 - the device is left as it was found [0000:00:04.0]: expected a device that "
         "works to the end, got 0000:00:04.0: COMMAND 0x0003", "\nok 4 - "], ["[exit 0]"]),
    "no drive is named": (["1..0 # SKIP", "is not named", "[exit 77]"], ["ok 1"]),
    "a drive that is not emulated": (
        ["a doorbell of no queue raises its event # SKIP undefined doorbell writes",
         "an SQ tail beyond the queue raises its event # SKIP undefined doorbell writes",
         "in flight # SKIP undefined doorbell writes", " 0 failed, 3 skipped\n"], []),
    "undefined doorbell writes on it": ([" 3 passed, 0 failed, 0 skipped\n"], []),
}


# Kinds of drives: QEMU's options for the controller, those for its namespace, if it has one, and
# what the autotest must print of it; {} is its address.
SHAPES = (
    ("", "", ["# {}: namespace 1 of 32768 blocks of 512 bytes, 64 I/O queues"]),
    ("mdts=1", "logical_block_size=4096,physical_block_size=4096",
     ["# {}: namespace 1 of 4096 blocks of 4096 bytes, 64 I/O queues",
      "and the primary goes on [{}]\n"]),
    ("", "ms=8", ["# {}: no I/O: {}: namespace 1 has blocks of 2^9 bytes and 8 of metadata",
                  "rte_eal_cleanup [{}]\n", "goes on [{}] # SKIP {}: namespace 1 has blocks"]),
    ("", None, ["# {}: no I/O: {}: no active namespace", "rte_eal_cleanup [{}]\n"]),
    ("", "nsid=2", ["# {}: namespace 2 of", "and the primary goes on [{}]\n"]),
    ("aerl=0,max_ioqpairs=1", "", [
        ", 1 I/O queues", "goes on [{}] # SKIP {} grants only 1 I/O queue pairs"]),
    ("aerl=0,max_ioqpairs=2", "", [
        ", 2 I/O queues", "a doorbell of no queue raises its event [{}] # SKIP {} grants only 2",
        "an SQ tail beyond the queue raises its event [{}]\n"]),
    ("use-intel-id=on,cmb_size_mb=1", "", ["# device {} 8086:5845",
                                           "INTx of the primary works after a secondary [{}]\n"]),
)
# Namespace 2 of the first drive, which is smaller: the test must take namespace 1.
SECOND_NAMESPACE = ("-drive", "if=none,id=second,file.driver=null-co,file.size=1M",
                    "-device", "nvme-ns,drive=second,bus=n0")

# A drive with room for two VFs of four I/O queue pairs. It is behind a root port, where VFs get
# their BAR below 4 GiB: QEMU 10.0 maps it nowhere else.
PF_PORT = ("-device", "pcie-root-port,id=root,chassis=1", "-device", "nvme-subsys,id=subsystem")
PF = ("bus=root,addr=0,subsys=subsystem,sriov_max_vfs=2,sriov_vq_flexible=10,sriov_vi_flexible=2,"
      "max_ioqpairs=12,msix_qsize=4")
VFS = {
    "0000:01:00.1": ["# {}: namespace 1 of 32768 blocks of 512 bytes, 4 I/O queues",
                     "an SQ tail beyond the queue raises its event [{}]\n",
                     "reading stops neither another nor the primary [{}]\n",
                     "INTx of the primary works after a secondary [{}] # SKIP {} has no INTx"],
    "0000:01:00.2": ["# {}: no I/O: {}: no NVM command set, or a VF that is offline",
                     "rte_eal_cleanup [{}]\n", "goes on [{}] # SKIP {}: no NVM command set"],
}


def drive_args(drives):
    """QEMU's arguments for drives: (file, options of the controller, of the namespace or None)."""
    words = []
    for index, (file, ctrl, namespace) in enumerate(drives):
        words += ["-device", f"nvme,id=n{index},serial=d{index},addr={4 + index:#x},{ctrl}"]
        if namespace is not None:
            words += ["-drive", f"if=none,id=d{index},format=raw,cache=unsafe,file={file.name}",
                      "-device", f"nvme-ns,drive=d{index},bus=n{index},{namespace}"]
    return [word.rstrip(",") for word in words]


def wrong_drives(done, expected):
    """What is not as it must be: expected are the lines to print of the drive at each address."""
    if done.code != 0 or "not ok" in done.stdout:
        yield f"exit code {done.code}, or a case failed"
    for address, lines in expected.items():
        yield from (f"not printed: {line}" for line in
                    (text.replace("{}", address) for text in lines) if line not in done.stdout)


def wrong_safety(done, before, drives):
    """What is not as it must be: what the test prints, and the content of the drives."""
    steps = dict(part.partition("\n")[::2] for part in done.stdout.split("\n# step ")[1:])
    for step, (must, must_not) in SAID.items():
        text = steps.get(step, "")
        yield from (f"{step}: not printed: {line}" for line in must if line not in text)
        yield from (f"{step}: printed: {line}" for line in must_not if line in text)
    yield from (f"drive {index} has changed" for index, drive in enumerate(drives)
                if pathlib.Path(drive.name).read_bytes() != before[index])


def safety(program, folder, drives):
    """What is not as it must be after tests/consumer/safety, and the lab's Result."""
    before = [pathlib.Path(drive.name).read_bytes() for drive in drives]
    done = vm.boot(vm.Options(
        **GUEST, command=["/safety", program],
        take=[(folder, "/dpdk"), (HERE / "safety", "/safety")],
        qemu_args=drive_args([(drive, "", "") for drive in drives])))
    return list(wrong_safety(done, before, drives)), done


def shapes(program, folder, drives):
    done = vm.boot(vm.Options(
        **GUEST, env=CASES, take=[(folder, "/dpdk")],
        command=["sh", "-c", 'for bdf in $LAB_NVME; do set -- "$@" -a "$bdf"; '
                 'echo "# irq $(cat "/sys/bus/pci/devices/$bdf/irq")"; done; '
                 'exec "$@" -- pci_uio_secondary_autotest', "sh", program, *EAL_OPTIONS],
        qemu_args=[*drive_args([(drive, *shape[:2]) for drive, shape in zip(drives, SHAPES)]),
                   *SECOND_NAMESPACE]))
    wrong = list(wrong_drives(done, {f"0000:00:{4 + index:02x}.0": lines
                                     for index, (_, _, lines) in enumerate(SHAPES)}))
    irqs = re.findall("# irq .*", done.stdout)
    if len(set(irqs)) == len(irqs):
        wrong.append("no two drives share an INTx line")
    return wrong, done


def vf(program, folder, drives):
    done = vm.boot(vm.Options(
        **GUEST, env=CASES, bind="nvme", command=["python3", "/vf.py", program, *EAL_OPTIONS],
        take=[(folder, "/dpdk"), (HERE / "vf.py", "/vf.py"),
              *guest_python.take(["fcntl", "os", "struct"])],
        qemu_args=[*PF_PORT, *drive_args([(drives[0], PF, "")])]))
    return list(wrong_drives(done, VFS)), done


def main(argv):
    parser = arguments.parser("tests/consumer/drive_safety", __doc__)
    parser.add_argument("--only", choices=PARTS, help="run only this part (default: all)")
    arguments.add_dpdk(parser)
    options = parser.parse_args(argv)
    distro.need({**variants.NEED, **vm.NEED})
    build = variants.Build(source.get(options.dpdk))
    folders = build.variants()
    folder = folders.get(variants.PATCHED, folders[variants.STOCK])
    parts = [options.only] if options.only else list(PARTS)
    if not options.only and not qemu.is_at_least(qemu.PROGRAM, qemu.OLDEST_SRIOV):
        print(f"drive_safety: vf: skipped: QEMU {qemu.version(qemu.PROGRAM)} has no SR-IOV")
        parts.remove("vf")
    failed = False
    for what in parts:
        drives = [tempfile.NamedTemporaryFile() for _ in SHAPES]
        for index, drive in enumerate(drives):
            guest_files.fill_drive(drive, index)
        with common.step(f"running the autotest: {what}"):
            wrong, done = PARTS[what](f"/dpdk/{build.program()}", folder, drives)
        failed |= bool(wrong)
        if wrong:
            print(done.stdout + done.stderr, flush=True)
        for line in wrong:
            print(f"drive_safety: {what}: {line}", flush=True)
    print(f"drive_safety: {'FAIL' if failed else 'PASS'}", flush=True)
    return common.FAILED if failed else common.PASSED


PARTS = {"safety": safety, "shapes": shapes, "vf": vf}
