# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Choose KVM or software emulation (TCG). That /dev/kvm can be opened does not mean that KVM works.

Nested KVM may accept every ioctl, and yet its guest hangs. So only a guest that booted counts.
"""

import os
import pathlib
import platform
import time

from .. import common
from . import qemu

KVM = pathlib.Path("/dev/kvm")
KVM_BOOTS_WITHIN = 20
RETRY_AFTER = 24 * 3600


def candidates(wish, program, guest):
    """The accelerators to try in turn, for Options.accel, and the guest's arch.Arch."""
    if wish != "auto":
        return [wish]
    if not (guest.is_native and KVM.exists()):
        return ["tcg"]
    if not os.access(KVM, os.R_OK | os.W_OK):
        common.say_once(f"  cannot open {KVM}: permission denied; using software emulation (TCG); "
                        "add yourself to group kvm to use KVM")
        return ["tcg"]
    failure = _failure()
    if (failure.is_file() and time.time() - failure.stat().st_mtime < RETRY_AFTER
            and failure.read_text() == _key(program)):
        return ["tcg"]
    return ["kvm", "tcg"]


def remember(kvm_works, program):
    """Keep whether KVM works on this kernel with this QEMU, for the next calls of candidates()."""
    _failure().unlink(missing_ok=True)
    if not kvm_works:
        common.replace_file(_failure(), _key(program))
        common.say(f"  KVM is present, but no guest booted on it within {KVM_BOOTS_WITHIN} s; "
                   "using software emulation (TCG) for a day (retry now: --accel kvm)")


def _failure():
    return common.build_dir("lab") / "kvm-does-not-work"


def _key(program):
    return f"Linux {platform.release()}, QEMU {qemu.version(program)}\n"
