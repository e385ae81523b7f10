# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The guest's kernel and modules: found or fetched, unpacked as far as needed, not installed."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import platform
import re
import time

from .. import arch, common, distro, process
from . import kernel_image

# The modules that the guest's init loads, unless built in, with their kernel options.
NEEDED = {"virtio_pci": "CONFIG_VIRTIO_PCI", "virtio_console": "CONFIG_VIRTIO_CONSOLE"}
# The same by the driver that devices are bound to.
DRIVERS = {"uio_pci_generic": {"uio_pci_generic": "CONFIG_UIO_PCI_GENERIC"},
           "nvme": {"nvme": "CONFIG_BLK_DEV_NVME"},
           "vfio-pci": {"vfio_pci": "CONFIG_VFIO_PCI",
                        "vfio_iommu_type1": "CONFIG_VFIO_IOMMU_TYPE1"}}

# What was fetched later was fetched by this command.
_STARTED = time.time()

# Available to modprobe in the guest, if the kernel has them.
OPTIONAL = ("uio_pci_generic", "vfio_pci", "vfio_iommu_type1", "iommufd")

# The files of a kernel package that are unpacked: the image, and the folders with those modules.
WANTED = re.compile(r"\./boot/vmlinuz-[^/]+|\./(usr/)?lib/modules/[^/]+/(modules\.builtin|kernel/("
                    r"(block|crypto|lib|virt/lib|drivers/(nvme|uio|vfio|virtio|iommu/iommufd))/|"
                    r"drivers/char/virtio_).+)")


@dataclasses.dataclass
class Kernel:
    """What the guest boots: release, file for QEMU, contents and dependencies of its modules.

    wanted: the names of the modules that the guest's init loads.
    """

    release: str
    image: pathlib.Path
    modules: dict = dataclasses.field(default_factory=dict)
    depends: dict = dataclasses.field(default_factory=dict)
    wanted: tuple = ()

    def closure(self, names):
        """These modules and their dependencies in load order, without those that are built in."""
        order = {}
        for name in names:
            if name in self.modules:
                order.update(dict.fromkeys([*self.closure(self.depends[name]), name]))
        return list(order)


def check(spec, modules, guest):
    """Raise Usage for options of obtain() that cannot work, before anything is fetched."""
    if spec is None:
        if modules is not None:
            raise common.Usage(f"--modules {modules} without --kernel: give the kernel, too")
        return
    if spec in distro.SUITES:
        if modules is not None:
            raise common.Usage(f"--modules {modules} with --kernel {spec}, which has its own")
        return
    spec = _readable(spec, "--kernel")
    if modules is not None:
        modules = _readable(modules, "--modules")
    if spec.suffix == ".deb":
        _package(spec)
    elif not spec.is_file():
        raise common.Usage(f"--kernel {spec}: not a file: give a vmlinuz, a kernel .deb, "
                           f"or one of {', '.join(distro.SUITES)}")
    else:
        _modules_for(spec, modules, guest)


def obtain(spec=None, modules=None, refresh=False, driver="uio_pci_generic", guest=arch.native()):
    """The Kernel to boot.

    spec: None for the distribution's newest, one of distro.SUITES for the newest of that suite, a
    kernel .deb, or the path of a vmlinuz or vmlinux.
    modules: None to look beside the kernel, else a folder, or the .deb that has the modules.
    refresh: fetch the distribution's newest again. driver: a key of DRIVERS. guest: an arch.Arch.
    """
    check(spec, modules, guest)
    if spec is None or spec in distro.SUITES:
        folder = _distribution_kernel(spec, refresh, guest)
        return _load(_image_in(folder, folder), folder, driver, guest)
    spec = pathlib.Path(spec).resolve()
    modules = modules and pathlib.Path(modules).resolve()
    if modules and modules.is_file():
        modules = _unpacked(modules)
    if spec.suffix == ".deb":
        folder = _unpacked(spec)
        return _load(_image_in(folder, f"--kernel {spec}"), modules or folder, driver, guest)
    return _load(spec, _modules_for(spec, modules, guest), driver, guest)


def _modules_for(vmlinuz, modules, guest):
    """The folder with the modules of a vmlinuz: the given one, or one found beside it."""
    release = kernel_image.release(vmlinuz, guest)
    if modules is not None:
        return modules
    beside = [vmlinuz.parent / "modules", vmlinuz.parent / "lib/modules" / release,
              vmlinuz.parent.parent / "lib/modules" / release,
              pathlib.Path("/lib/modules") / release]
    for folder in beside:
        if folder.is_dir():
            return folder
    raise common.Usage(f"--kernel {vmlinuz}: no modules of {release} found beside it "
                       f"(searched {', '.join(map(str, beside))}): give them with --modules DIR")


def _readable(path, option):
    path = pathlib.Path(path).resolve()
    if not os.access(path, os.R_OK):
        raise common.Usage(f"{option} {path}: "
                           f"{'not readable' if path.exists() else 'no such file or folder'}")
    return path


def _image_in(folder, what):
    for image in folder.glob("boot/vmlinuz-*"):
        return image
    raise common.Usage(f"{what}: no boot/vmlinuz-* in it: give the package with the kernel's image")


def _distribution_kernel(suite, refresh, guest):
    """The unpacked package of the newest kernel of a suite, or the machine's own; fetched once."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", "own")
    name = f"linux-{suite or own}{guest.suffix}"
    if refresh:
        distro.refresh_lists()
    found = distro.unpacked(name, _packages(suite, guest), suite, WANTED, refresh, guest)
    if (found / ".unpacked").stat().st_mtime < _STARTED:
        _say_age(found)
    return found


@functools.cache
def _say_age(known):
    names = ", ".join(image.name.partition("-")[2] for image in known.glob("boot/vmlinuz-*"))
    common.say(f"  kernel {names} (fetched {common.age(known / '.unpacked')} ago; --refresh to "
               "fetch the newest)")


def _packages(suite, guest):
    """The packages of the newest kernel: a generator, so that nothing is fetched before its use."""
    for meta in guest.kernel_packages:
        # Ubuntu keeps modules in a package of their own, which the image package depends on.
        packages = list(distro.depending([meta], r"linux-(?:image|modules)-(?:extra-)?\d\S*",
                                         suite, guest))
        if len(packages) > 1:
            yield from packages
            return
    raise common.Infrastructure(f"the distribution has none of {', '.join(guest.kernel_packages)}: "
                                "give a kernel with --kernel")


def _package(deb):
    """What a .deb says that it is."""
    return process.run(["dpkg-deb", "-f", deb, "Package", "Version"], problem=common.Usage).stdout


def _unpacked(deb):
    """A folder of the build directory with what is needed of a kernel package, unpacked once."""
    key = hashlib.sha256(f"{WANTED.pattern}{_package(deb)}{deb.stat().st_size}".encode())
    folder = common.build_dir("kernel") / f"{deb.name.split('_')[0]}-{key.hexdigest()[:12]}"
    with common.locked(folder.parent / "lock", "unpacking a kernel"):
        if not folder.is_dir():
            with common.fresh_dir(folder) as staging:
                distro.unpack(deb, staging, WANTED)
    return folder


def _load(image, folder, driver, guest):
    """Read a kernel's modules; Usage if one that the guest needs is missing."""
    release = kernel_image.release(image, guest)
    files = {path.name.split(".ko")[0].replace("-", "_"): path
             for path in sorted(folder.rglob("*.ko*"))}
    builtin = {pathlib.PurePath(line).stem.replace("-", "_")
               for path in folder.rglob("modules.builtin")
               for line in path.read_text().splitlines()}
    needed = {**NEEDED, **DRIVERS[driver]}
    kernel = Kernel(release, kernel_image.bootable(image), wanted=tuple(needed))

    def load(name):
        """Read a module after those that it depends on."""
        if name in builtin or name in kernel.modules:
            return
        if name not in files:
            raise common.Usage(
                f"kernel {release} has no module {name} ({needed.get(name, 'a dependency')}) "
                f"in {folder}: give the folder or the package that has it with --modules")
        version, kernel.depends[name] = kernel_image.about_module(files[name])
        if version != release:
            raise common.Usage(f"{files[name]} is for kernel {version}, not for {release}: "
                               "give the folder with this kernel's modules with --modules")
        for other in kernel.depends[name]:
            load(other)
        kernel.modules[name] = kernel_image.read_module(files[name])

    for name in needed:
        load(name)
    for name in OPTIONAL:
        with contextlib.suppress(common.Usage):
            load(name)
    return kernel
