# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Link a dpdk-test of only what test.c refers to, out of a configured build of the whole.

ninja compiles the objects as for the whole dpdk-test, so that a later build of the whole reuses
them. The link alone is done here. ninja has not logged it, and therefore repeats it for the whole.
"""

import json
import os
import re
import shlex

from .. import common, process

# main(), the recursive calls of the tests (test.c) and the interactive commands (commands.c).
_START = ("test.c", "commands.c")


def build(objects, ninja):
    """Build dpdk-test and the drivers that it links; False if this DPDK is built in another way.

    ninja(targets) runs ninja in the folder `objects` and raises a Problem if it fails.
    """
    ninja(["build.ninja"])
    rules = json.loads(_run(objects, "ninja", "-t", "compdb", "-x"))
    links = [rule for rule in rules if os.path.basename(rule["output"]) == "dpdk-test"
             and rule["file"].endswith(".o")]
    if len(links) != 1:
        return False
    words = shlex.split(links[0]["command"])
    sources = {rule["output"]: os.path.join(objects, rule["file"])
               for rule in rules if rule["output"] in words and rule["file"].endswith(".c")}
    chosen = {name for name, source in sources.items() if os.path.basename(source) in _START}
    if len(chosen) != len(_START):
        return False
    definitions = _definitions(sources)
    headers_of = {name: _own_headers(source) for name, source in sources.items()}
    # Of test.h and the like, which every test includes.
    common_headers = set().union(*(headers_of[name] for name in chosen))
    grown = True
    while grown:
        ninja(sorted(chosen))
        undefined = re.findall(r" U (\w+)", _run(objects, "nm", "-u", *sorted(chosen)))
        needed = {name for symbol in undefined for name in definitions.get(symbol, ())}
        # Files of one test share a header. Some register themselves by a constructor alone.
        shared = set().union(*(headers_of[name] for name in chosen)) - common_headers
        needed |= {name for name, headers in headers_of.items() if headers & shared}
        grown = not needed <= chosen
        chosen |= needed
    headers = set(re.findall(r"/lib/(\w+)/", _run(objects, "ninja", "-t", "deps", *chosen)))
    kept = [word for word in words if _is_needed(word, chosen, headers)]
    ninja([word for word in kept if re.match(r"(lib|drivers)/librte_\w+\.so", word)])
    linked = process.run(kept, cwd=objects, check=False)
    if linked.returncode != 0:
        common.say("  cannot link a part of dpdk-test: building the whole")
    return linked.returncode == 0


def _run(objects, *command):
    return process.run(command, cwd=objects).stdout


def _definitions(sources):
    """{function: objects} of the functions that one test source may call in another."""
    found = {}
    for name, source in sources.items():
        with open(source, errors="replace") as file:
            for function in re.findall(r"(?m)^(?!.*\bstatic\b).*\n(\w+)\(", file.read()):
                found.setdefault(function, set()).add(name)
    return found


def _own_headers(source):
    """The headers beside a test source that it includes."""
    with open(source, errors="replace") as file:
        return set(re.findall(r'(?m)^#include "(\w+\.h)"', file.read()))


def _is_needed(word, chosen, headers):
    """Whether a word of the link command stays: other objects and unused libraries do not."""
    library = re.match(r"lib/librte_(\w+)\.so", word)
    if library:
        return library[1] in headers
    return not word.endswith(".o") or word in chosen
