# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The distribution: missing programs, and packages fetched without touching the machine's apt."""

import contextlib
import functools
import importlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

from . import arch, common, process

_LISTS_MAX_AGE = 24 * 3600
_PYTHON_MODULES = "/usr/lib/python3/dist-packages"

# Suites of the distribution whose packages the lab can use beside those of the machine's own.
SUITES = ("bookworm", "bookworm-backports", "trixie")


def need(programs):
    """Make sure that programs exist. `programs` maps a name or absolute path to its package.

    Missing ones are installed where this user may (Debian/Ubuntu, root or passwordless sudo) and
    UIO_NO_INSTALL is not set; otherwise Infrastructure names the command that installs them.
    """
    missing = {name: package for name, package in programs.items()
               if not (os.path.exists(name) if os.path.isabs(name) else shutil.which(name))}
    if missing:
        install(sorted(set(missing.values())), f"missing: {', '.join(sorted(missing))}")


def install(packages, why):
    """Install packages, or say exactly how to."""
    # Of two commands that install at the same time, the second waits for the first.
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y",
               "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise common.Infrastructure(
            f"{why}; this is not Debian or Ubuntu: install what provides them "
            f"(Debian's packages: {' '.join(packages)})")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if os.environ.get("UIO_NO_INSTALL") or sudo and (
            not shutil.which("sudo") or process.run([*sudo, "true"], check=False).returncode != 0):
        word = "sudo " * bool(sudo)
        raise common.Infrastructure(
            f"{why}; run: {word}apt-get update && {word}apt-get install -y "
            f"--no-install-recommends {' '.join(packages)}")
    common.say(f"  {why}; installing {' '.join(packages)} and what they depend on "
               "(to prevent this: --no-install, or UIO_NO_INSTALL=1)")
    prefix = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive"]
    # A package manager that is killed leaves packages half configured.
    with common.step("installing packages"), common.interrupts_held(
            "  interrupted: waiting for the package manager to finish"):
        if process.run(prefix + command, check=False).returncode != 0:
            # Package lists absent or older than the mirror.
            process.run([*prefix, "apt-get", "update"])
            process.run(prefix + command)


def python_module(name, package):
    """Import a Python module; the distribution's package is installed if the module is missing.

    The running python3 need not be the distribution's, whose modules it does not find by itself.
    """
    for attempt in ("as it is", "distribution's modules", "installed"):
        if attempt == "installed":
            install([package], f"missing: Python module {name}")
        if attempt != "as it is" and _PYTHON_MODULES not in sys.path:
            sys.path.append(_PYTHON_MODULES)
        importlib.invalidate_caches()
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise common.Infrastructure(f"python3 does not find the module {name} after {package} was "
                                f"installed: install it for {sys.executable}")


def depending(packages, wanted, suite=None, guest=arch.native()):
    """These packages and all that they depend on, of those whose names the pattern matches.

    A generator, so that nothing is fetched before the names are used.
    """
    found, new = set(), set(packages)
    while new:
        found |= new
        listed = apt_cache("depends", "--important", *sorted(new), suite=suite, guest=guest)
        new = set(re.findall(rf"(?m)^ *\|?(?:Pre)?Depends: ({wanted})$", listed)) - found
    yield from sorted(found)


def unpacked(name, packages, suite=None, wanted=None, refresh=False,
             guest=arch.native()):
    """A folder of the build directory with packages unpacked, which are not installed.

    They are fetched once, and again with refresh. `packages` is not looked into when the folder is
    there. wanted: a pattern of the files to unpack.
    """
    folder = common.build_dir() / name
    stamp, pattern = folder / ".unpacked", wanted.pattern if wanted else ""
    with common.locked(folder.with_name(f"{name}.lock"), f"fetching {name}"):
        if refresh or not (stamp.is_file() and stamp.read_text() == pattern):
            need({"dpkg-deb": "dpkg"})
            with common.step(f"fetching {name}"), \
                    tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as download:
                apt_get("download", *packages, cwd=download, suite=suite, guest=guest)
                with common.fresh_dir(folder) as staging:
                    for package in pathlib.Path(download).glob("*.deb"):
                        unpack(package, staging, wanted)
                    (staging / stamp.name).write_text(pattern)
    return folder


def unpack(package, folder, wanted=None):
    """Unpack a .deb, or only the files whose names match a pattern."""
    if not wanted:
        process.run(["dpkg-deb", "-x", package, folder])
        return
    with process.running(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL) as source:
        with contextlib.suppress(tarfile.TarError), \
                tarfile.open(fileobj=source.stdout, mode="r|") as archive:
            for member in archive:
                # tarfile's own filters, which would keep it in the folder, need Python 3.11.4.
                if (member.isfile() and wanted.fullmatch(member.name)
                        and ".." not in member.name.split("/")):
                    path = folder / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "wb") as file:
                        shutil.copyfileobj(archive.extractfile(member), file)
        source.stdout.read()
        source.wait()
    if source.returncode != 0:
        raise common.Usage(f"{package}: dpkg-deb cannot unpack all of it: the file may be "
                           "incomplete")


def machine_sources(etc=pathlib.Path("/etc/apt"), codename=None, suite=None):
    """The machine's own sources of its distribution, with source packages, as deb822 text.

    Third-party sources are left out: they may be unreachable, or lack source packages.
    suite: take the packages of this suite from the same mirrors; the distribution's keys stay.
    """
    codename = codename or platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    release = (suite or codename).split("-")[0]
    stanzas = []
    for path in sorted([*etc.glob("*.sources"), *etc.glob("sources.list.d/*.sources")]):
        text = re.sub(r"(?m)^#.*\n?", "", path.read_text(errors="replace"))
        for stanza in re.split(r"\n\s*\n", text):
            # Values go through as they are: Signed-By may hold a whole key.
            stanzas.append(dict((key.lower(), value.strip()) for key, value in
                                re.findall(r"(?ms)^([\w-]+):(.*?)(?=^\S|\Z)", stanza)))
    for path in sorted([*etc.glob("sources.list"), *etc.glob("sources.list.d/*.list")]):
        for line in path.read_text(errors="replace").splitlines():
            match = re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
            if match:
                options, uri, suites, components = match.groups()
                stanza = {"types": "deb", "uris": uri, "suites": suites, "components": components}
                for option in (options or "").split():
                    key, _, value = option.partition("=")
                    names = {"arch": "architectures", "signed-by": "signed-by",
                             "trusted": "trusted"}
                    if key in names:
                        stanza[names[key]] = value.replace(",", " ")
                stanzas.append(stanza)
    kept = []
    for stanza in stanzas:
        suites = [one for one in stanza.get("suites", "").split()
                  if one.split("-")[0] in (codename, "stable", "testing", "unstable", "sid")]
        if (suites and "deb" in stanza.get("types", "").split()
                and "main" in stanza.get("components", "").split()
                and stanza.get("enabled", "yes").lower() not in ("no", "false")):
            if suite not in (None, release) and codename in suites:
                suites.append(suite)
            stanza.update(types="deb deb-src", suites=" ".join(
                re.sub(f"^{codename}\\b", release, one) for one in suites))
            kept.append("\n".join(f"{key.title()}: {value}" for key, value in stanza.items()))
    return "\n\n".join(kept) + "\n" if kept else ""


def refresh_lists():
    """Have the next use of apt fetch the package lists, however old they are."""
    for stamp in common.build_dir().glob("apt*/updated"):
        stamp.unlink(missing_ok=True)


def _apt(program, *args, cwd=None, suite=None, guest=arch.native()):
    """Run a program of apt in a private state, of an arch.Arch, and return what it printed.

    suite: prefer the packages of this one.
    """
    if shutil.which(program) is None:
        raise common.Infrastructure(
            f"no {program} here: give a DPDK tree with --dpdk PATH and a kernel with --kernel PATH")
    if suite == platform.freedesktop_os_release().get("VERSION_CODENAME"):
        suite = None
    sources = machine_sources(suite=suite)
    if not guest.is_native:
        sources = re.sub(r"(?m)^Architectures: .*\n", "", sources)
    if not sources:
        raise common.Infrastructure(
            "no package source of this distribution's main section in /etc/apt: "
            "give a DPDK tree with --dpdk PATH and a kernel with --kernel PATH")
    state = common.build_dir(f"apt{f'-{suite}' if suite else ''}{guest.suffix}")
    with common.locked(state / "lock", "fetching packages"):
        env = dict(os.environ, APT_CONFIG=str(state / "apt.conf"), LC_ALL="C.UTF-8")
        _update(state, sources, env, suite, guest)
        return process.run([program, *args], cwd=cwd, env=env).stdout


apt_get, apt_cache = functools.partial(_apt, "apt-get"), functools.partial(_apt, "apt-cache")


def _update(state, sources, env, suite, guest):
    """Set the private apt state up, and fetch the package lists if they are old."""
    lists = common.build_dir(state.name, "state", "lists")
    common.build_dir(state.name, "cache", "archives", "partial")
    changed = common.replace_file(state / "sources.list.d" / "machine.sources", sources)
    common.replace_file(state / "apt.conf", "\n".join([
        f'Dir::State "{state}/state";',
        'Dir::State::status "/var/lib/dpkg/status";',
        f'Dir::Cache "{state}/cache";',
        'Dir::Etc::SourceList "/dev/null";',
        f'Dir::Etc::SourceParts "{state}/sources.list.d";',
        # The build directory may be closed to apt's own user.
        'APT::Sandbox::User "root";',
        # apt prefers backports only if told so.
        f'APT::Default-Release "{suite}";' if "-" in (suite or "") else "",
        *([] if guest.is_native else [f'APT::Architecture "{guest.name}";',
                                      f'APT::Architectures {{ "{guest.name}"; }};']),
        'Acquire::Languages "none";', ""]))
    stamp = state / "updated"
    if changed or not stamp.exists() or time.time() - stamp.stat().st_mtime > _LISTS_MAX_AGE:
        with common.step("fetching package lists into a private apt state"):
            done = process.run(["apt-get", "update"], env=env, check=False)
        if done.returncode == 0 and not re.search(r"(?m)^[EW]: .*[Ff]ailed", done.stderr):
            stamp.touch()
        elif not any(lists.glob("*_Sources*")):
            raise common.Infrastructure(f"cannot fetch package lists:\n{done.stderr.strip()}\n"
                                        "check the network and the sources in /etc/apt")
        else:
            cause = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            common.say(f"  cannot fetch package lists: {cause}; using the old ones")
