# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The architectures of guests: what the tools need to know of each."""

import dataclasses
import os
import pathlib
import platform
import shlex


@dataclasses.dataclass(frozen=True)
class Arch:
    """One architecture. Packages and programs are the distribution's."""

    # Debian's name, the kernel's (`uname -m`), e_machine of an ELF file.
    name: str
    machine: str
    elf: int
    loader: str

    qemu: str
    qemu_package: str
    # Words of QEMU's command line.
    board: tuple
    emulated_cpu: str
    iommu: tuple
    # Words of the kernel's command line: uio_pci_generic past the IOMMU, vfio-pci behind it.
    iommu_args: str

    # The serial port with the boot log, and more words of the kernel's command line.
    console: str
    kernel_args: str
    # Meta packages that depend on the newest kernel: Debian's, Ubuntu's.
    kernel_packages: tuple

    # DPDK's cross file, relative to its source.
    cross_file: str

    @property
    def triplet(self):
        return f"{self.machine}-linux-gnu"

    @property
    def is_native(self):
        return self.machine == platform.machine()

    @property
    def root(self):
        """Below it are the libraries that a program is linked with, at their paths in a guest."""
        return pathlib.Path("/" if self.is_native else f"/usr/{self.triplet}")

    @property
    def suffix(self):
        """Of names in the build directory: none for the machine's own architecture."""
        return "" if self.is_native else f"-{self.name}"

    @property
    def compiler(self):
        """The words that start a command line of the C compiler."""
        return (shlex.split(os.environ.get("CC", "cc")) if self.is_native
                else [f"{self.triplet}-gcc"])

    @property
    def compiler_need(self):
        """Programs and files that compiling for it needs, by package; see distro.need()."""
        if self.is_native:
            return {"gcc": "gcc", "/usr/include/stdio.h": "libc6-dev"}
        return {f"{self.triplet}-gcc": f"gcc-{self.triplet}",
                f"{self.root}/include/stdio.h": f"libc6-dev-{self.name}-cross"}


AMD64 = Arch(
    name="amd64", machine="x86_64", elf=62, loader="/lib64/ld-linux-x86-64.so.2",
    qemu="qemu-system-x86_64", qemu_package="qemu-system-x86", board=("-machine", "q35"),
    # An emulated fifth level of page tables costs time, and nothing here needs it.
    emulated_cpu="max,la57=off",
    # TCG cannot remap interrupts. QEMU's default of 39 address bits is too few for DPDK's virtual
    # addresses.
    iommu=("-device", "intel-iommu,intremap=off,aw-bits=48"),
    iommu_args="intel_iommu=on iommu=pt",
    console="ttyS0", kernel_args="tsc=reliable no_timer_check",
    kernel_packages=("linux-image-amd64", "linux-image-generic"),
    cross_file=None)

ARM64 = Arch(
    name="arm64", machine="aarch64", elf=183, loader="/lib/ld-linux-aarch64.so.1",
    qemu="qemu-system-aarch64", qemu_package="qemu-system-arm",
    # With KVM it must be the version of the machine's own interrupt controller.
    board=("-machine", "virt,gic-version=max"),
    # Emulated, the kernel boots on it in a third of the time that `max` takes. neoverse-n1 needs
    # QEMU 7.1.
    emulated_cpu="cortex-a72", iommu=("-machine", "iommu=smmuv3"),
    iommu_args="iommu.passthrough=1",
    console="ttyAMA0", kernel_args="",
    kernel_packages=("linux-image-arm64", "linux-image-generic"),
    cross_file="config/arm/arm64_armv8_linux_gcc")

ALL = {arch.name: arch for arch in (AMD64, ARM64)}


def native():
    """The architecture of this machine, or of most guests where this machine has none."""
    return next((arch for arch in ALL.values() if arch.is_native), AMD64)


def guests():
    """Those that DPDK can be built for on this machine, by name; its own is the first."""
    return {arch.name: arch for arch in (native(), *ALL.values())
            if arch.cross_file or arch is native()}
