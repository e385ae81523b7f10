# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""KVM or TCG: /dev/kvm may be there, and take every ioctl, and yet no guest lives on it."""

import os
import platform

from .. import common
from . import qemu


def candidates(wish, program):
    """The accelerators to try in turn, for --accel auto, kvm or tcg."""
    if wish != "auto":
        return [wish]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["tcg"]
    memory = _memory()
    if memory.is_file() and memory.read_text() == _key(program):
        return ["tcg"]
    return ["kvm", "tcg"]


def remember_tcg(program):
    """Do not try KVM again on this kernel with this QEMU; say so."""
    common.replace_file(_memory(), _key(program))
    common.say("  /dev/kvm is there, but a guest does not live on it: TCG, now and from now on "
               f"(to try again: --accel kvm, or rm {_memory()})")


def _memory():
    return common.build_dir("lab") / "kvm-does-not-work"


def _key(program):
    return f"Linux {platform.release()}, QEMU {qemu.version(program)}\n"
