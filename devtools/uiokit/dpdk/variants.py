# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Build dpdk-test once with several bus drivers: stock, patched, and patched without a topic.

One prepared tree serves all. First the tests alone are applied and built, which gives the stock
librte_bus_pci.so; then the fix is applied, and ninja rebuilds that one library. A variant is a
folder of links to the build, of dpdk-test and its libraries, in which only that library differs.
"""

import contextlib
import hashlib
import json
import os
import shutil

from .. import arch, common, distro, elf, process
from . import partial
from ..series import apply, dpdk_tree, patchset, scratch

# Programs, by package.
NEED = {"meson": "meson", "ninja": "ninja-build", "git": "git", "pkg-config": "pkg-config",
        **arch.native().compiler_need}

STOCK, PATCHED = "stock", "patched"
LIBRARY = "librte_bus_pci.so"

# EAL looks for each possible lcore on each possible node, in every process.
FEW_CPUS = ["-Dmax_lcores=16", "-Dmax_numa_nodes=1"]
# Without optimisation it builds in a third of the time, and nothing here depends on speed.
MINIMAL = ["-Ddefault_library=shared", "-Ddisable_libs=*",
           "-Denable_drivers=bus/pci,bus/vdev,mempool/ring", "-Denable_apps=test",
           "-Dtests=true", "-Dplatform=generic", "-Ddeveloper_mode=disabled",
           "--buildtype=debug", *FEW_CPUS]
_SANITIZED = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1"]
_OPTIMIZED = ["--buildtype=release"]


class Build:
    """The prepared tree, its build and the variants of one DPDK.

    kind: the end of the name of the build directory. guest: the arch.Arch that it is built for.
    without: a topic; one more variant is patched without it and without all that needs it.
    """

    def __init__(self, tree, sanitize=False, optimize=False, kind="", guest=arch.native(),
                 without=None):
        self.tree = tree
        self.compiler = guest.compiler
        cross = [] if guest.is_native else [f"--cross-file={tree.path / guest.cross_file}"]
        self.options = MINIMAL + cross + _SANITIZED * sanitize + _OPTIMIZED * optimize
        key = hashlib.sha256(str(tree.path).encode()).hexdigest()[:8]
        kind += "-sanitized" * sanitize + "-optimized" * optimize + guest.suffix
        self.root = common.build_dir("dpdk", f"{tree.text}-{key}{kind}")
        self.source = self.root / "tree"
        self.objects = self.root / "objects"
        self.env = build_environment()
        carried = apply.applied(tree)
        self.patches = [patch for patch in patchset.read_for(tree)
                        if patch.name not in [there.name for there in carried]]
        self.patched = {}
        if without:
            kept = [patch.name for patch in patchset.without(patchset.read(), without)]
            self.patched[f"without-{without}"] = [
                patch for patch in self.patches
                if patch.name in kept or not patch.touches_library()]
        # It is built last: the next command then finds its objects, and not those of another.
        self.patched[PATCHED] = self.patches
        self.diagnosis, self.evidence = dpdk_tree.diagnose(tree.read)

    def variants(self):
        """Build and return {variant: folder}. A base without the bug has no patched variant."""
        patched = self.patched if self.diagnosis == "affected" else {}
        with self.alone():
            self.stock()
            for variant, patches in patched.items():
                overlay = scratch.patched_files(self.tree, patches)
                # Patched is always built, since that also builds dpdk-test.
                if variant == PATCHED or not self.is_current(variant, overlay):
                    self.build(variant, overlay)
            # All else is the same: lay_out() takes it from the same build.
            if patched and common.same_content(self.root / STOCK, self.root / PATCHED):
                raise common.Infrastructure("stock and patched have the same bus driver; remove "
                                            f"{self.root} and run again")
            return {variant: self.lay_out(variant) for variant in (STOCK, *patched)}

    def alone(self):
        """No other process may prepare or build this tree meanwhile."""
        return common.locked(self.root / "lock", f"building in {self.root}")

    def stock(self):
        """Build the stock variant, unless it is current. The caller is alone()."""
        affected = self.diagnosis == "affected"
        if not (affected and self.is_current(STOCK, {})):
            self.build(STOCK, scratch.patched_files(self.tree, self.tests(affected)))

    def tests(self, affected):
        """The patches of the tests alone, as both variants have them.

        A tree that has the fix gets only the tests of what it has.
        """
        drivers = {patch.name for patch in self.patches if patch.touches_library()}
        return [patch for patch in self.patches if patch.name not in drivers
                and (affected or not drivers.intersection(patch.needs))]

    def stamp(self, fingerprint, overlay):
        """Changes whenever the base, the options or the files of drivers in the overlay change."""
        drivers = sorted(item for item in overlay.items() if item[0].startswith("drivers/"))
        return hashlib.sha256(repr([fingerprint, self.options, drivers]).encode()).hexdigest()

    def is_current(self, variant, overlay):
        stamp = self.root / f"{variant}.stamp"
        return (self.root / variant).is_dir() and stamp.is_file() \
            and stamp.read_text() == self.stamp(self.tree.fingerprint(), overlay)

    def build(self, variant, overlay, whole=False):
        """Bring the prepared tree to a variant, build, and keep its bus driver."""
        stamp = self.root / f"{variant}.stamp"
        stamp.unlink(missing_ok=True)
        fingerprint = self.prepare(overlay)
        self.make(variant, self.root / f"build-{variant}.log", whole)
        with common.fresh_dir(self.root / variant) as folder:
            for path in (self.objects / "drivers").glob(f"{LIBRARY}*"):
                if path.is_symlink() or path.is_file():
                    shutil.copy2(path, folder, follow_symlinks=False)
        stamp.write_text(self.stamp(fingerprint, overlay))

    def make(self, what, log, whole=False):
        """Build the prepared tree, set up anew when the options are others.

        By default it builds only the part of dpdk-test that the autotest runs, with its libraries:
        the many processes of the test start faster without the rest.
        """
        stamp = self.objects / "options"
        if not (stamp.is_file() and stamp.read_text() == "\0".join(self.options)):
            shutil.rmtree(self.objects, ignore_errors=True)
            with common.step(f"configuring {self.tree}"):
                process.run(["meson", "setup", *self.options, self.objects, self.source],
                            log=log, env=self.env)
            stamp.write_text("\0".join(self.options))
        with common.step(f"building {self.tree}, {what}") as progress:
            def ninja(targets):
                process.run(["ninja", "-C", self.objects, *targets], log=log, env=self.env,
                            progress=progress)

            tests = {os.path.basename(name) for patch in patchset.read() for name in patch.new_files
                     if name.startswith("app/test/")}
            if whole or not partial.build(self.objects, ninja, tests, self.compiler):
                ninja([])

    def prepare(self, overlay):
        """Make the prepared tree the base plus the overlay, touching only what differs.

        Returns the fingerprint of that base, which may be edited during the build.
        """
        fingerprint = self.tree.fingerprint()
        state_file = self.root / "prepared.json"
        state = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            state = json.loads(state_file.read_text())
        stale = set(state.get("overlay", ()))
        if state.get("base") != fingerprint or not self.source.is_dir():
            stale |= set(self.tree.files())
            state_file.unlink(missing_ok=True)
            self._tell_untracked()
            with common.step(f"copying the {self.tree} source"):
                self._copy(stale - set(overlay))
                keep = stale | set(overlay)
                for path in self.source.rglob("*"):
                    if not path.is_dir() and str(path.relative_to(self.source)) not in keep:
                        path.unlink()
        else:
            self._copy(stale - set(overlay))
        # Recorded before it is done: an interrupted run must know what to put back.
        common.replace_file(state_file, json.dumps(
            {"base": fingerprint, "overlay": sorted(overlay)}))
        for name, data in overlay.items():
            common.replace_file(self.source / name, data)
        return fingerprint

    def _tell_untracked(self):
        """git decides which files of a checkout are its source."""
        if self.tree.is_git:
            names = self.tree.git("ls-files", "--others", "--exclude-standard").splitlines()
            if names:
                common.say(f"  {self.tree.path}: {len(names)} untracked files are left out, such "
                           f"as {names[0]}; to build them: git add")

    def _copy(self, names):
        for name in names:
            origin, target = self.tree.path / name, self.source / name
            if origin.is_file():
                mode = origin.stat().st_mode & 0o777
                common.replace_file(target, origin.read_bytes(), mode)
            elif target.is_file():
                target.unlink()

    def lay_out(self, variant):
        """A folder with dpdk-test and its libraries where its RUNPATH finds them."""
        program = self.objects / self.program()
        libraries = [path for path in elf.libraries(program, "")[0]
                     if path.is_relative_to(self.objects) and not path.name.startswith(LIBRARY)]
        with common.fresh_dir(self.root / f"run-{variant}", keep_same=True) as folder:
            (folder / "drivers").mkdir()
            # The loader finds a library by a symbolic link to a file beside it.
            files = [path.parent / os.readlink(path) for path in libraries if path.is_symlink()]
            for path in {program, *libraries, *files}:
                target = folder / path.relative_to(self.objects)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target, follow_symlinks=False)
            for path in (self.root / variant).glob(f"{LIBRARY}*"):
                shutil.copy2(path, folder / "drivers", follow_symlinks=False)
        return self.root / f"run-{variant}"

    def compile(self, sources, output, flags=()):
        """Compile a C program against this build, to be run from app/ beside its libraries."""
        env = dict(self.env, PKG_CONFIG_PATH=str(self.objects / "meson-uninstalled"))
        asked = process.run(["pkg-config", "--cflags", "libdpdk"], env=env).stdout.split()
        process.run([*self.compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-g",
                     "-DALLOW_INTERNAL_API", "-DALLOW_EXPERIMENTAL_API", *flags, *asked,
                     *sources, "-o", output, f"-L{self.objects}/lib", f"-L{self.objects}/drivers",
                     # The bus driver only has to be there: it registers itself.
                     "-lrte_eal", "-Wl,--no-as-needed", "-lrte_bus_pci", "-pthread",
                     "-Wl,-rpath,$ORIGIN/../lib:$ORIGIN/../drivers"],
                    env=env, problem=common.CheckFailed)

    def program(self):
        """dpdk-test, relative to a variant's folder."""
        for name in ("app/dpdk-test", "app/test/dpdk-test"):
            if (self.objects / name).is_file() and not (self.objects / name).is_symlink():
                return name
        raise common.Infrastructure(f"{self.objects}: built, but there is no dpdk-test; "
                                    f"see {self.root}/build-{STOCK}.log")


def build_environment():
    """An environment in which meson, ninja and a python3 with pyelftools are found."""
    distro.need(NEED)
    distro.python_module("elftools", "python3-pyelftools")
    env = dict(os.environ, LC_ALL="C.UTF-8")
    if process.run(["python3", "-c", "import elftools"], env=env, check=False).returncode != 0:
        # The first python3 in PATH lacks it: take the distribution's.
        env["PATH"] = f"/usr/bin:/bin:{env['PATH']}"
    return env
