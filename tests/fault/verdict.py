# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Judge the results of the fault tests. Each function returns what is wrong."""

from uiokit.lab import tap

# Counts of a sweep that are not failures.
HARMLESS = ("tries", "killed", "refused", "went on", "not reached",
            # Of kill_primary: before a secondary has the primary's open files.
            "too early", "secondary without the device", "secondary read on",
            # EAL's own, with and without the series: see doc/faults.md.
            "went on, scan failed", "lock of EAL left taken", "primary restarted: EAL")
# One point in this many may not be reached: threads do not make the same calls in every run.
NOT_REACHED = 20
# Resources of the primary and the machine that must not grow after the first sample of soak.py,
# and the private memory in kB that the primary may touch for the first time after it.
GROWING = ("fds", "maps", "heap_bytes", "heap_count", "heap_total", "runtime_files")
MEMORY_SLACK = 128


def sweep(found, must_lose):
    """Judge sweeps.py. must_lose: this DPDK has the bug, and the sweep must detect it."""
    counts = found["counts"]
    if must_lose:
        return [] if counts.get("device lost") else [
            "no try lost the device: this DPDK has the bug, but the sweep did not detect it"]
    wrong = [f"{kind}: {number} of {counts['tries']}" for kind, number in counts.items()
             if kind not in HARMLESS]
    if counts.get("not reached", 0) * NOT_REACHED > counts["tries"]:
        wrong.append(f"{counts['not reached']} of {counts['tries']} system calls were not reached")
    if counts.get("too early", 0) * 2 > counts["tries"]:
        wrong.append(f"{counts['too early']} of {counts['tries']} primaries were killed before a "
                     "secondary read: too few show anything")
    return wrong + found["wrong"]


def soak(found, states):
    """Judge soak.py. states: the bus master bit of each device over time, traced by QEMU."""
    first, last = found["first"], found["last"]
    wrong = list(found["wrong"])
    if found["wrong_reads"]:
        wrong.append(f"{found['wrong_reads']} reads returned wrong data")
    if not found["reads"]:
        wrong.append("nothing was read")
    if found["primary"] != 0:
        wrong.append(f"the primary exited with {found['primary']}")
    if found["first_after"] >= found["secondaries"]:
        wrong.append("growth was not tested: there is one sample")
    wrong += [f"{name} grew from {first[name]} to {last[name]}" for name in GROWING
              if last[name] > first[name]]
    if last["private_kb"] > first["private_kb"] + MEMORY_SLACK:
        wrong.append(f"private_kb grew from {first['private_kb']} to {last['private_kb']}")
    if last["hugepages_free"] < first["hugepages_free"]:
        wrong.append(f"hugepages_free fell from {first['hugepages_free']} to "
                     f"{last['hugepages_free']}")
    wrong += [f"{device}: bus mastering went {', '.join(state)} instead of on, off"
              for device, state in states.items() if state != ["on", "off"]]
    if len(states) != found["drives"]:
        wrong.append(f"QEMU traced {len(states)} of {found['drives']} drives")
    return wrong


def device_faults(output, code):
    """The failed scenarios in the TAP output of device_faults.py; None without a verdict."""
    found = tap.read(output)
    if found.broken or (code == 0) != found.passed:
        return None
    return [f"not ok {case.number} - {case}" for case in found.of(tap.FAILED)]


def device_faults_passed(wrong, must_lose):
    """Whether the failed scenarios are the expected ones: none, or on stock a lost device."""
    return any("bus mastering is off" in line for line in wrong) if must_lose else not wrong
