# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Link a dpdk-test of some tests only, out of a configured build of the whole.

ninja compiles the objects as for the whole dpdk-test, so that a later build of the whole reuses
them. The link alone is done here, to the path of the whole dpdk-test. ninja has not logged it, and
therefore links the whole again when an object of the whole has changed.
"""

import json
import os
import pathlib
import re
import shlex

from .. import common, process

# main(), the recursive calls of the tests (test.c) and the interactive commands (commands.c).
_START = ("test.c", "commands.c")
_LIBRARY = re.compile(r"(lib|drivers)/librte_(\w+)\.so")


def build(objects, ninja, tests, compiler):
    """Build dpdk-test with the tests in these files, and the drivers that it links.

    False if this DPDK is built in another way. ninja(targets) runs ninja in the folder `objects`
    and raises a Problem if it fails. The other tests, to which test.c refers, abort when called.
    """
    ninja(["build.ninja"])
    rules = json.loads(_run(objects, "ninja", "-t", "compdb", "-x"))
    links = [rule for rule in rules if os.path.basename(rule["output"]) == "dpdk-test"
             and rule["file"].endswith(".o")]
    if len(links) != 1:
        return False
    words = shlex.split(links[0]["command"])
    sources = {rule["output"]: pathlib.Path(objects, rule["file"])
               for rule in rules if rule["output"] in words and rule["file"].endswith(".c")}
    start, chosen = ({name for name, source in sources.items() if source.name in files}
                     for files in (_START, tests))
    if len(start) != len(_START) or not chosen:
        return False
    definitions = _definitions(sources)

    def undefined(names):
        ninja(sorted(names))
        return set(re.findall(r" U (\w+)", _run(objects, "nm", "-u", *sorted(names))))

    while more := {name for symbol in undefined(chosen)
                   for name in definitions.get(symbol, ())} - chosen - start:
        chosen |= more
    symbols = undefined(start | chosen)
    others = [symbol for symbol in sorted(symbols & definitions.keys())
              if definitions[symbol].isdisjoint(start | chosen)]
    process.run([*compiler, "-fPIC", "-x", "c", "-c", "-", "-o", "others.o"],
                cwd=objects, stdin="#include <stdlib.h>\n" + "".join(
                    f"void {name}(void) {{ abort(); }}\n" for name in others))
    top = next(iter(sources.values())).parents[2]
    kept = [word for word in words if _is_needed(word, start | chosen, symbols, top)]
    ninja([word for word in kept if _LIBRARY.match(word)])
    linked = process.run([*kept, "others.o"], cwd=objects, check=False)
    if linked.returncode != 0:
        common.say("  cannot link a part of dpdk-test: building the whole")
    return linked.returncode == 0


def _run(objects, *command):
    return process.run(command, cwd=objects).stdout


def _definitions(sources):
    """{function: objects} of the functions that one test source may call in another."""
    found = {}
    for name, source in sources.items():
        for function in re.findall(r"(?m)^(?!.*\bstatic\b).*\n(\w+)\(",
                                   source.read_text(errors="replace")):
            found.setdefault(function, set()).add(name)
    return found


def _is_needed(word, chosen, symbols, top):
    """Whether a word of the link command stays: other objects and unused libraries do not."""
    library = _LIBRARY.match(word)
    if not library:
        return not word.endswith(".o") or word in chosen
    kind, name = library.groups()
    folder = top / kind / (name if kind == "lib" else name.replace("_", "/", 1))
    # Since 25.07 the version map is made of macros in the source.
    exported = re.findall(r"(?m)(?:^\s+|RTE_EXPORT_\w*SYMBOL\()(\w+)[;,)]", "".join(
        path.read_text(errors="replace") for path in folder.rglob("*")
        if path.suffix in (".map", ".c")))
    return not symbols.isdisjoint(exported)
