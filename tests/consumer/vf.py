# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab: make two VFs of the drive LAB_NVME, the first online, and run the autotest on both.

usage: vf.py <dpdk-test and its EAL options>; the kernel's nvme driver has the drive
"""

import fcntl
import os
import struct
import sys

SYSFS = "/sys/bus/pci"
PF = f"{SYSFS}/devices/{os.environ['LAB_NVME']}"
NVME_IOCTL_ADMIN_CMD = 0xc0484e41
VIRTUALIZATION_MANAGEMENT = 0x1c
# Its fields in command dword 10: the first secondary controller; a type of resource and an action.
FIRST_VF = 1 << 16
ASSIGN_QUEUES, ASSIGN_INTERRUPTS, SET_ONLINE = 0x008, 0x108, 0x009


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def manage(action, number):
    # struct nvme_passthru_cmd: the opcode, command dwords 10 and 11. A positive result is a status.
    command = bytearray(struct.pack("<B39xII24x", VIRTUALIZATION_MANAGEMENT, FIRST_VF | action,
                                    number))
    with open("/dev/nvme0") as device:
        status = fcntl.ioctl(device, NVME_IOCTL_ADMIN_CMD, command)
    if status:
        sys.exit(f"Virtualization Management, action {action:#x}: status {status:#x}")


write(f"{PF}/sriov_drivers_autoprobe", "0")
write(f"{PF}/sriov_numvfs", "2")
# The admin queue counts.
manage(ASSIGN_QUEUES, 5)
manage(ASSIGN_INTERRUPTS, 1)
manage(SET_ONLINE, 0)
os.system("modprobe uio_pci_generic")
argv = sys.argv[1:]
for index in range(2):
    vf = os.path.basename(os.readlink(f"{PF}/virtfn{index}"))
    write(f"{SYSFS}/devices/{vf}/driver_override", "uio_pci_generic")
    write(f"{SYSFS}/drivers_probe", vf)
    argv += ["-a", vf]
os.execv(argv[0], [*argv, "--", "pci_uio_secondary_autotest"])
