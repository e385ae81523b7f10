# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""How a UIO device is attached from namespaces, under AppArmor, lockdown (doc/confinement.md)."""

import re

from uiokit.dpdk import variants

# The parser of AppArmor's profiles, which the guest needs.
PARSER = "/sbin/apparmor_parser"
# In each row of tests/consumer/confinement, on stock and on patched: the exit code of the process,
# which is 1 if it could not attach, and the drive's bus mastering after its exit.
STOPS_DMA, KEEPS_DMA, REFUSED, FAILS = "0 OFF", "0 on", "1 on", "1 OFF"
ROWS = {
    "secondary": (STOPS_DMA, KEEPS_DMA),
    "second primary": (STOPS_DMA, REFUSED),
    "secondary, no /dev/uio0": (REFUSED, KEEPS_DMA),
    "secondary, /sys read-only": (FAILS, REFUSED),
    "secondary, /sys bind-mounted": (STOPS_DMA, KEEPS_DMA),
    "second primary, /sys bind-mounted": (STOPS_DMA, REFUSED),
    "secondary, own network namespace and /sys": (STOPS_DMA, KEEPS_DMA),
    "second primary, own network namespace and /sys": (STOPS_DMA, STOPS_DMA),
    "secondary, own PID namespace": (STOPS_DMA, KEEPS_DMA),
    "second primary, own PID namespace": (STOPS_DMA, REFUSED),
    "second primary, hidepid": (STOPS_DMA, REFUSED),
    "secondary, setuid after attach": (STOPS_DMA, KEEPS_DMA),
    "secondary of a primary that called setuid": (STOPS_DMA, KEEPS_DMA),
    "second primary beside one that called setuid": (STOPS_DMA, REFUSED),
    "secondary, AppArmor": (STOPS_DMA, KEEPS_DMA),
    "second primary, AppArmor": (STOPS_DMA, STOPS_DMA),
    "secondary, lockdown since the primary attached": (FAILS, REFUSED),
    # A primary alone, whose exit clears bus mastering.
    "primary, /sys read-only": (FAILS, FAILS),
    "primary, AppArmor": (STOPS_DMA, STOPS_DMA),
    "primary, lockdown": (FAILS, FAILS),
}


def judge(variant, done):
    """Whether each row ended as it must; prints the output."""
    print(f"== {variant}\n{done.stdout}{done.stderr}", flush=True)
    found = {}
    for part in done.stdout.split("\n= ")[1:]:
        end = re.search(r"(?m)^exit (\d+), bus master (\w+)$", part)
        found[part.split("\n")[0]] = end and f"{end[1]} {end[2]}"
    expected = {row: ends[variant == variants.PATCHED] for row, ends in ROWS.items()}
    wrong = [row for row in {**expected, **found} if found.get(row) != expected.get(row)]
    for row in wrong:
        print(f"{variant}: FAILED: {row}: expected {expected.get(row)}, got {found.get(row)}",
              flush=True)
    return not wrong
