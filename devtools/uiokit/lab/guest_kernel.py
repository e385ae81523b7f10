# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The guest's kernel and modules: found or fetched, unpacked as far as needed, not installed."""

import dataclasses
import fcntl
import contextlib
import hashlib
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile

from .. import common, distro, process
from . import kernel_image

# Meta packages that lead to the newest kernel: Debian's, Ubuntu's.
META_PACKAGES = ("linux-image-amd64", "linux-image-generic")

# Loaded by the guest's init, unless built in.
NEEDED = {"virtio_pci": "CONFIG_VIRTIO_PCI", "virtio_console": "CONFIG_VIRTIO_CONSOLE",
          "uio_pci_generic": "CONFIG_UIO_PCI_GENERIC"}

# There for modprobe, if the kernel has them.
OPTIONAL = ("vfio_pci", "vfio_iommu_type1", "iommufd")

# What is unpacked of a kernel package: the few folders where those, and what they need, live.
WANTED = re.compile(r"\./boot/vmlinuz-|.*/modules\.builtin$|.*/kernel/("
                    "drivers/(uio|vfio|virtio|iommu/iommufd)/|drivers/char/virtio_|virt/lib/)")


@dataclasses.dataclass
class Kernel:
    """What the guest boots: release, file for QEMU, contents and dependencies of its modules."""

    release: str
    image: pathlib.Path
    modules: dict
    depends: dict

    def closure(self, names):
        """These modules and all that they depend on, in load order; what is built in is not."""
        order = {}
        for name in names:
            if name in self.modules:
                order.update(dict.fromkeys([*self.closure(self.depends[name]), name]))
        return list(order)


def obtain(spec=None, modules=None):
    """The Kernel for what the person gave.

    spec: None for the distribution's, a kernel .deb, or the path of a vmlinuz or vmlinux.
    modules: None to look beside the kernel, else a folder, or the .deb that holds the modules.
    """
    # Of two that want the same kernel at the same time, the second finds it done.
    with open(common.build_dir("kernel") / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _obtain(spec, modules)


def _obtain(spec, modules):
    if spec is None:
        folder = _distribution_kernel()
        return _load(_image_in(folder), folder)
    spec = _readable(spec, "--kernel")
    if modules is not None:
        modules = _readable(modules, "--modules")
        if modules.is_file():
            modules = _unpack([modules])
    if spec.suffix == ".deb":
        folder = _unpack([spec])
        image = _image_in(folder)
        if image is None:
            raise common.Usage(f"--kernel {spec}: no boot/vmlinuz-* in it: "
                               "give the package with the kernel's image")
        return _load(image, modules or folder)
    if not spec.is_file():
        raise common.Usage(f"--kernel {spec}: not a file: give a vmlinuz or a kernel .deb")
    release = kernel_image.release(spec)
    if modules is None:
        beside = [spec.parent / "modules", spec.parent / "lib/modules" / release,
                  spec.parent.parent / "lib/modules" / release,
                  pathlib.Path("/lib/modules") / release]
        modules = next((folder for folder in beside if folder.is_dir()), None)
        if modules is None:
            raise common.Usage(f"--kernel {spec}: no modules of {release} found beside it "
                               f"(looked for {', '.join(map(str, beside))}): "
                               "give them with --modules DIR")
    return _load(spec, modules)


def _readable(path, option):
    path = pathlib.Path(path).resolve()
    try:
        if path.is_file():
            open(path, "rb").close()
        else:
            next(path.iterdir(), None)
    except OSError as error:
        raise common.Usage(f"{option} {path}: {error.strerror}") from None
    return path


def _image_in(folder):
    return next(folder.glob("boot/vmlinuz-*"), None)


def _distribution_kernel():
    """The unpacked package of the distribution's newest kernel; once fetched, without network."""
    known = common.build_dir("kernel") / "default"
    if known.is_file():
        folder = known.parent / known.read_text().strip()
        if folder.is_dir() and _image_in(folder):
            return folder
    for meta in META_PACKAGES:
        packages = _depends(meta, "image|modules")
        if packages:
            break
    else:
        raise common.Infrastructure(f"the distribution has none of {', '.join(META_PACKAGES)}: "
                                    "give a kernel with --kernel")
    # Ubuntu keeps modules in a package of their own, which the image package depends on.
    for package in list(packages):
        packages += [name for name in _depends(package, "modules") if name not in packages]
    with tempfile.TemporaryDirectory(dir=known.parent, prefix="download-") as download:
        with common.step(f"fetching {', '.join(packages)}"):
            distro.apt_get("download", *packages, cwd=download)
        with common.step("unpacking the kernel"):
            folder = _unpack(sorted(pathlib.Path(download).glob("*.deb")))
    common.replace_file(known, folder.name + "\n")
    return folder


def _depends(package, kinds):
    return re.findall(rf"(?m)^ *Depends: (linux-(?:{kinds})-(?:extra-)?\d\S*)$",
                      distro.apt_cache("depends", package))


def _unpack(debs):
    """Unpack what is needed of kernel packages into one folder of the build directory, once."""
    key = hashlib.sha256(WANTED.pattern.encode())
    for deb in debs:
        about = process.run(["dpkg-deb", "-f", deb, "Package", "Version"],
                            problem=common.Usage).stdout
        key.update(f"{about}{deb.stat().st_size}".encode())
    folder = common.build_dir("kernel") / f"{debs[0].name.split('_')[0]}-{key.hexdigest()[:12]}"
    if not folder.is_dir():
        with common.fresh_dir(folder) as staging:
            for deb in debs:
                _unpack_wanted(deb, staging)
    return folder


def _unpack_wanted(deb, folder):
    with process.running(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL) as source:
        with contextlib.suppress(tarfile.TarError), \
                tarfile.open(fileobj=source.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile() and WANTED.match(member.name):
                    path = folder / pathlib.PurePath("/", member.name).relative_to("/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "wb") as file:
                        shutil.copyfileobj(archive.extractfile(member), file)
        source.stdout.read()
        source.wait()
    if source.returncode != 0:
        raise common.Usage(f"{deb}: dpkg-deb cannot unpack it to its end: is it whole?")


def _load(image, folder):
    """Read a kernel's modules, and make sure that those without which there is no lab are there."""
    release = kernel_image.release(image)
    files = {path.name.split(".ko")[0].replace("-", "_"): path
             for path in sorted(folder.rglob("*.ko*"))}
    builtin = {pathlib.PurePath(line).stem.replace("-", "_")
               for path in folder.rglob("modules.builtin")
               for line in path.read_text().splitlines()}
    kernel = Kernel(release, kernel_image.bootable(image), {}, {})

    def load(name):
        if name in builtin or name in kernel.modules:
            return
        if name not in files:
            raise common.Usage(
                f"kernel {release} has no module {name} ({NEEDED.get(name, 'a dependency')}) "
                f"in {folder}: give the folder or the package that has it with --modules")
        data = kernel_image.read_module(files[name])
        version = kernel_image.module_version(data)
        if version != release:
            raise common.Usage(f"{files[name]} is for kernel {version}, not for {release}: "
                               "give the folder with this kernel's modules with --modules")
        kernel.depends[name] = kernel_image.module_depends(data)
        for other in kernel.depends[name]:
            load(other)
        kernel.modules[name] = data

    for name in NEEDED:
        load(name)
    for name in OPTIONAL:
        try:
            load(name)
        except common.Usage:
            continue
    return kernel
