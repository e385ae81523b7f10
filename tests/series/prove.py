# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Prove one claim about the series on a real DPDK."""

import contextlib
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import tempfile

from uiokit import common, distro, process
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import autotest, tap, vm
from uiokit.series import apply, dpdk_tree, export, patchset, refresh, scratch

# The user may have no git identity; these commits never leave a scratch folder.
SCRATCH_IDENTITY = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
                    for key, value in (("NAME", "Scratch"), ("EMAIL", "scratch@localhost"))}

# Run the autotest with the bus driver of one commit: nothing else in /dpdk differs.
RUN_COMMIT = """\
cp /dpdk/{name}/librte_bus_pci.so.*.* /dpdk/drivers/
echo "# {name}"
{cases} "$@"
printf '\\n# exit code %s\\n' $?
"""

# Complaints of DPDK's own checks that are known, and why they stand.
KNOWN = {
    "git-log": (
        "Wrong 'Fixes' reference:",  # A source package has no history to find commits in.
        ".mailmap",  # The scratch identity is nobody's.
        "Invalid patch(es) found",  # It counts what is listed above it.
    ),
    "checkpatches": (
        "Using driver specific headers in applications",  # A test of a bus needs its driver API.
        "UNKNOWN_COMMIT_ID",  # No history here either.
        "COMPLEX_MACRO",  # A constructor, in the form of REGISTER_TEST_COMMAND() in test.h.
        "AVOID_BUG",  # RTE_BUILD_BUG_ON() is no BUG(): it stops the build.
    ),
}


def mails(tree):
    """Applying gives the tree that exporting and `git am` give, byte-identical each time."""
    patches = patchset.read_for(tree)
    with repositories(tree, 3, patches) as (plain, applied, mailed):
        shutil.rmtree(plain.path / ".git")
        apply.apply(dpdk_tree.Tree(plain.path), patches)
        apply.apply(applied, patches)
        first, second = (export.export(mailed, patches, mailed.path.parent / name)
                         for name in ("first", "second"))
        expect([path.read_bytes() for path in first] == [path.read_bytes() for path in second],
               "a second export differs from the first")
        expect(len(first) == len(patches) + 1, f"{len(first)} mails of {len(patches)} patches")
        mailed.git("am", "-q", *first[1:], problem=common.CheckFailed)
        expect(applied.git("rev-parse", "HEAD^{tree}") == mailed.git("rev-parse", "HEAD^{tree}"),
               "git am of the mails gives another tree than series apply")
        expect(apply.apply(applied, patches) == [], "a second apply does something")
        expect(refresh.refresh(applied) == [], "refresh of an applied tree changes the series")
        for name in patchset.paths(patches, tree):
            expect((plain.path / name).read_bytes() == (applied.path / name).read_bytes(),
                   f"an unpacked tree gets another {name} than a git tree")


def commits(tree, full=False):
    """Every commit of the series builds, without a warning in a file that it touches, and passes.

    The default cases of the autotest must pass on the commit that brings the fix; if full, also on
    each later one. The cases that a commit adds must pass with nothing but what it needs. Of the
    many cases of the test's first commit, the default ones are enough, unless full. One guest runs
    them with the bus driver of each commit, and runs no driver twice with the same cases.
    """
    build = variants.Build(tree)
    cases = {}
    with build.alone():
        # First, so that later tests find it, and take the last commit for patched.
        build.stock()
        for patch, patches, chosen in _steps(build, full):
            name = f"commit-{patch.name}"
            _build_commit(build, name, patches, patch)
            run = f"PCI_UIO_SECONDARY_CASES={shlex.quote(','.join(chosen))}"
            if chosen == autotest.SHORT:
                run += " LAB_UIO="  # The drive alone.
            same = [other for other in cases if cases[other] == run
                    and common.same_content(build.root / other, build.root / name)]
            if same:
                print(f"{name}: has the bus driver and the cases of {same[0]}")
            elif chosen:
                cases[name] = run
        if not cases:
            raise common.Skip(f"{tree} is {build.diagnosis}: there is no commit to run")
        # The commits built dpdk-test as a whole. The guest needs only a part.
        build.make("the autotest", build.root / "build-autotest.log")
        folder = build.lay_out(name)
        for name in cases:
            shutil.copytree(build.root / name, folder / name, symlinks=True)
    options = autotest.Options(all=True, aslr=False, cpus=1, timeout=3000)
    guest = autotest.guest(options, folder, build.program())
    guest.command = ["sh", "-c", "".join(RUN_COMMIT.format(name=name, cases=chosen)
                                         for name, chosen in cases.items()), "sh", *guest.command]
    with common.step(f"running {autotest.TEST} on {len(cases)} commits"):
        runs = re.findall(r"(?ms)^# (commit-\S+)\n(.*?)^# exit code (\d+)$", vm.boot(guest).stdout)
    for name, output, code in runs:
        verdict = autotest.judge(output, int(code))
        expect(verdict.passed, "\n".join([f"{name}: {verdict.broken or 'these cases fail:'}",
                                          *map(str, verdict.of(tap.FAILED))]))
        print(f"{name}: {len(verdict.of(tap.PASSED))} cases pass")
    expect([name for name, *_ in runs] == [*cases], f"the guest ran only {len(runs)} commits")


def _steps(build, full):
    """(patch, the patches to build it with, the cases to run) of each commit, in order."""
    # The tests are in place from the start, so that their objects are built once.
    rest = [patch for patch in build.patches if not patch.touches_library()]
    driver = []
    for patch in build.patches:
        if patch.touches_library():
            driver.append(patch)
            fixed = [one for one in driver if one.brings_fix(build.tree)]
            yield patch, [*driver, *rest], (
                autotest.SHORT if fixed and (full or patch in fixed) else ())
            continue
        names = [need.name for need in patchset.read([patch.name])]
        # What names no need of this tree, such as the test itself, is of the fix.
        needed = [one for one in driver if one.name in names] or [
            one for one in driver if one.brings_fix(build.tree)]
        yield patch, needed + rest, (
            autotest.known_cases(patch.new_files) if patch.needs or full else autotest.SHORT)


def _build_commit(build, name, patches, patch):
    touched = [*patch.new_files, *patch.diffs(build.tree)]
    overlay = scratch.patched_files(build.tree, patches)
    build.prepare(overlay)
    for path in touched:
        # So that its warnings are seen again. A newer source would have meson set up all anew.
        for made in build.objects.rglob(f"*{pathlib.Path(path).name}.o"):
            made.unlink()
    try:
        build.build(name, overlay, whole=True)
    except common.Infrastructure as problem:
        raise common.CheckFailed(f"{patch.name} does not build: {problem}") from None
    warnings = [line for line in (build.root / f"build-{name}.log").read_text().splitlines()
                if "warning:" in line and any(path in line for path in touched)]
    expect(not warnings, "\n".join([f"{patch.name} warns:", *warnings]))


def style(tree):
    """DPDK's own checks find nothing in the series."""
    patches = patchset.read_for(tree)
    # Only the files of the series can be complained of, and searching the whole tree takes minutes.
    with repositories(tree, 1, patches, "devtools/", "MAINTAINERS", ".mailmap") as (repository,):
        apply.apply(repository, patches)
        found = complaints(repository, patches)
    for check, lines in found.items():
        expect(not lines, "\n".join([f"{check}:", *(f"    {line}" for line in lines)]))
        print(f"{check}: clean")
    if "checkpatches" not in found:
        raise common.Skip("all checks but checkpatches are clean; it needs checkpatch.pl, and the "
                          "distribution's linux source package could not be fetched")


def abi(tree):
    """librte_bus_pci has the same ABI with and without the series, internals included."""
    build = variants.Build(tree)
    folders = build.variants()
    if variants.PATCHED not in folders:
        raise common.Skip(f"{tree} is {build.diagnosis}: there is nothing to compare")
    stock, patched = (next((folders[name] / "drivers").glob(f"{variants.LIBRARY}.*.*"))
                      for name in (variants.STOCK, variants.PATCHED))
    done = process.run(["abidiff", "--no-default-suppression", stock, patched], check=False)
    print(done.stdout or "abidiff: no change")
    expect(done.returncode == 0 and not done.stdout.strip(), "the ABI changes")
    # abidiff sees only types that exported symbols use; the record in shared memory is not one.
    for struct in ("rte_pci_device", "rte_pci_driver", "mapped_pci_resource"):
        # gdb's view: offsets, sizes and types of its members.
        layouts = [process.run(["gdb", "-batch", "-nx", "-ex", f"ptype /o struct {struct}",
                                path]).stdout for path in (stock, patched)]
        expect(layouts[0] == layouts[1] and layouts[0],
               f"struct {struct} differs:\n{layouts[0]}\n{layouts[1]}")
        print(f"struct {struct}: same layout")


def freebsd(tree):
    """FreeBSD's half compiles against stubs, and defines all that the common half calls.

    It is not run: that needs FreeBSD and a device bound to nic_uio.
    """
    build = variants.Build(tree)
    build.variants()
    with build.alone():
        _compile_freebsd(build)


def _compile_freebsd(build):
    build.prepare(scratch.patched_files(build.tree, build.patches))
    commands = json.loads((build.objects / "compile_commands.json").read_text())
    # The compiler's command line for the common half, less what names its input and output.
    argv = next(shlex.split(one["command"]) for one in commands
                if one["file"].endswith("bus/pci/pci_common_uio.c"))
    argv = [word for previous, word in zip(["", *argv], argv)
            if previous not in ("-o", "-MQ", "-MF") and word not in ("-o", "-MQ", "-MF", "-MD")
            and not word.endswith("pci_common_uio.c")]
    called, defined = set(), set()
    with tempfile.TemporaryDirectory() as objects:
        for header in ("dev/pci/pcireg.h", "machine/cpufunc.h", "sys/pciio.h"):
            common.replace_file(os.path.join(objects, header), "")
        where = argv.index("rte_config.h") + 1
        argv[where:where] = ["-include", str(common.TOP / "tests/series/freebsd.h"),
                             f"-I{objects}", "-Werror"]
        for name in ("bsd/pci.c", "pci_common_uio.c", "pci_common.c", "pci_params.c"):
            output = os.path.join(objects, "object.o")
            process.run([*argv, build.source / "drivers/bus/pci" / name, "-o", output],
                        cwd=build.objects, problem=common.CheckFailed)
            print(f"{name}: compiles")
            for line in process.run(["nm", output]).stdout.splitlines():
                kind, symbol = line.split()[-2:]
                (called if kind == "U" else defined).add(symbol)
    # Only those of the bus driver: other libraries define the rest.
    lacking = {symbol for symbol in called - defined if symbol.startswith("pci_")}
    expect(not lacking, f"nothing defines {', '.join(sorted(lacking))} on FreeBSD")


def complaints(repository, patches):
    """{check: what it says of the series}, of DPDK's own checks."""
    env = dict(os.environ, LC_ALL="C.UTF-8", HOME=str(repository.path.parent))
    ours = patchset.paths(patches, repository)
    new = [name for patch in patches for name in patch.new_files]
    found = {}

    def check(name, *command, about=None, **more):
        with common.step(f"DPDK's check of {name}"):
            done = process.run(command, cwd=repository.path, env={**env, **more}, check=False)
        # The exit code is no use: some of these scripts count complaints with it.
        if not (repository.path / command[1]).is_file() or "Traceback" in done.stderr:
            raise common.Infrastructure(f"{command[1]} did not do its work:\n{done.stderr}")
        lines = filtered(name, (done.stdout + done.stderr).splitlines())
        # Complaints about other files are not about the series.
        found[name] = [line for line in lines
                       if about is None or any(path in line for path in about)]

    listing = repository.path / "MAINTAINERS"
    listing.write_text(own_sections(listing.read_text(), new))
    check("maintainers", "sh", "devtools/check-maintainers.sh", about=new)
    check("spdx", "sh", "devtools/check-spdx-tag.sh", "-v", about=ours)
    check("meson", "python3", "devtools/check-meson.py", about=ours)
    check("git-log", "sh", "devtools/check-git-log.sh", f"-n{len(patches)}")
    script = checkpatch()
    if script:
        # Without a terminal it checks the files that it is given, not the commits.
        folder = repository.path.parent / "patches"
        repository.git("format-patch", "-q", f"-{len(patches)}", "-o", folder)
        done = process.run(["sh", "devtools/checkpatches.sh", "-v", *sorted(folder.iterdir())],
                           cwd=repository.path, check=False,
                           env={**env, "DPDK_CHECKPATCH_PATH": str(script)})
        expect(done.stdout.count("### ") == len(patches),
               f"checkpatches did not look at every patch:\n{done.stdout}{done.stderr}")
        # Its own findings are one line each; those of checkpatch.pl start with their severity.
        found["checkpatches"] = filtered("checkpatches", re.findall(
            r"(?m)^(?:(?:WARNING|ERROR|CHECK):.*|Warning in .*\n.*)", done.stdout))
    return found


def own_sections(maintainers, names):
    """The sections of MAINTAINERS that list one of these files.

    check-maintainers.sh starts some twenty programs for each line, and so takes minutes for all.
    """
    return "\n\n".join(section for section in maintainers.split("\n\n") if any(
        fnmatch.fnmatch(name, pattern + "*" if pattern.endswith("/") else pattern)
        for pattern in re.findall(r"(?m)^F: (\S+)$", section) for name in names)) + "\n"


def filtered(name, lines):
    """Without known complaints: a heading and the indented lines below it, or a line."""
    kept, inside = [], False
    for line in lines:
        if any(known in line for known in KNOWN.get(name, ())):
            inside = line.endswith(":")
        elif not (inside and line.startswith(("\t", " "))):
            inside = False
            kept.append(line)
    return [line for line in kept if line.strip()]


def checkpatch():
    """The kernel's checkpatch.pl out of the distribution's source package, or None."""
    folder = common.build_dir("checkpatch")
    script = folder / "checkpatch.pl"
    if not script.exists():
        names = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")
        try:
            with common.step("getting checkpatch.pl from the linux source package"), \
                    tempfile.TemporaryDirectory(dir=folder) as download:
                package = re.search(r"Depends: (linux-source-\S+)",
                                    distro.apt_cache("depends", "linux-source"))[1]
                distro.apt_get("download", package, cwd=download)
                process.run(["sh", "-c", "dpkg-deb --fsys-tarfile *.deb | tar -xO --wildcards "
                             "'./usr/src/linux-source-*.tar.xz' | tar -xJ --strip-components=2 "
                             "--wildcards " + " ".join(f"'*/scripts/{name}'" for name in names)],
                            cwd=download)
                for name in reversed(names):
                    shutil.move(os.path.join(download, name), folder / name)
        except (common.Infrastructure, TypeError) as problem:
            common.say(f"no checkpatch.pl: {problem}")
            return None
    return script


@contextlib.contextmanager
def repositories(tree, count, patches, *more):
    """Scratch git repositories whose only commit has the files that the patches touch, and more."""
    names = (dpdk_tree.COMMON, dpdk_tree.LINUX, "VERSION", "meson.build",
             *patchset.paths(patches, tree), *more)
    with tempfile.TemporaryDirectory(dir=common.build_dir()) as folder:
        first = pathlib.Path(folder, "0")
        for name in tree.files():
            if name.startswith(names):
                target = first / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree.path / name, target, follow_symlinks=False)
        for command in (["init", "-q", "-b", "main"], ["config", "gc.auto", "0"],
                        ["add", "-A", "-f"],
                        ["commit", "-q", "-m", str(tree)]):
            process.run(["git", *command], cwd=first)
        for number in range(1, count):
            shutil.copytree(first, pathlib.Path(folder, str(number)), symlinks=True)
        yield [dpdk_tree.Tree(pathlib.Path(folder, str(number))) for number in range(count)]


def expect(condition, otherwise):
    if not condition:
        raise common.CheckFailed(otherwise)


def main(argv):
    claims = {claim.__name__: claim for claim in (mails, commits, style, abi, freebsd)}
    parser = arguments.parser("tests/series/prove", "\n".join([__doc__, "", *(
        f"{name:8} {claim.__doc__.splitlines()[0]}" for name, claim in claims.items())]))
    parser.add_argument("claim", choices=claims)
    arguments.add_dpdk(parser)
    parser.add_argument("--full", action="store_true", help="commits: also run all cases of the "
                        "test on the commit that adds it, and the default ones on each commit "
                        "after the fix")
    options = parser.parse_args(argv)
    if options.full and options.claim != "commits":
        parser.error("--full: only for commits")
    os.environ.update(SCRATCH_IDENTITY)
    claims[options.claim](source.get(options.dpdk), **({"full": True} if options.full else {}))
    print(f"{options.claim}: passed")
