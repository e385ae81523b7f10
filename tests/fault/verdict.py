# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Judge what the fault tests found in the guest. Each function returns what is wrong."""

from uiokit.lab import tap

# What may be counted in a sweep and still hold.
HARMLESS = ("tries", "killed", "refused", "went on", "not reached",
            # EAL's own, with and without the series: see doc/faults.md.
            "went on, scan failed", "lock of EAL left taken", "primary started again: EAL")
# One in so many may not be reached: threads do not make the same calls in every life.
NOT_REACHED = 20
# What the primary and the machine may not have more of after the last secondaries than after the
# first hundred, and private memory that it may have touched for the first time meanwhile, in kB.
GROWING = ("fds", "maps", "heap_bytes", "heap_count", "heap_total", "runtime_files")
MEMORY_SLACK = 128


def sweep(found, must_lose):
    """Of sweeps.py. must_lose: this DPDK has the bug, and the sweep must see it."""
    counts = found["counts"]
    if must_lose:
        return [] if counts.get("device lost") else [
            "no try cost the device: the sweep does not see the bug that this DPDK has"]
    wrong = [f"{kind}: {number} of {counts['tries']}" for kind, number in counts.items()
             if kind not in HARMLESS]
    if counts.get("not reached", 0) * NOT_REACHED > counts["tries"]:
        wrong.append(f"{counts['not reached']} of {counts['tries']} system calls were not reached")
    return wrong + found["wrong"]


def soak(found, states):
    """Of soak.py. states: each device's bus master bit over time, as QEMU saw it."""
    first, last = found["first"], found["last"]
    wrong = list(found["wrong"])
    if found["wrong_reads"]:
        wrong.append(f"{found['wrong_reads']} reads gave wrong data")
    if not found["reads"]:
        wrong.append("nothing was read")
    if found["primary"] != 0:
        wrong.append(f"the primary ended with {found['primary']}")
    wrong += [f"{name} grows from {first[name]} to {last[name]}" for name in GROWING
              if last[name] > first[name]]
    if last["private_kb"] > first["private_kb"] + MEMORY_SLACK:
        wrong.append(f"the primary grows from {first['private_kb']} to {last['private_kb']} kB")
    if last["hugepages_free"] < first["hugepages_free"]:
        wrong.append(f"free hugepages fall from {first['hugepages_free']} to "
                     f"{last['hugepages_free']}")
    wrong += [f"{device}: bus master went {', '.join(state)}, and not on and off once"
              for device, state in states.items() if state != ["on", "off"]]
    if len(states) != found["drives"]:
        wrong.append(f"QEMU saw {len(states)} of {found['drives']} drives")
    return wrong


def trouble(output, code):
    """Of trouble.py's TAP; None when it is no verdict at all."""
    found = tap.read(output)
    if found.broken or (code == 0) != found.passed:
        return None
    return [f"not ok {case.number} - {case}" for case in found.of(tap.FAILED)]


def trouble_held(wrong, must_lose):
    """Whether what trouble() returned is as it must be, on stock a lost device."""
    return any("bus master is off" in line for line in wrong) if must_lose else not wrong
