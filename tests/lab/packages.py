"""Real Asterisks out of Debian packages: downloaded and unpacked beside the host's own, never installed on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOTS = HERE / "roots"

SUITES = {"22": "sid", "16": "bullseye"}
"""Asterisk's major version → the Debian suite that carries it."""

_ASTERISK = ("asterisk", "asterisk-modules", "libc6")
_TOOLS = {"sipp": "sip-tester", "patchelf": "patchelf"}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR_VARIABLE = "LAB_DEBIAN_MIRROR"
_APT_SECONDS = 600.0
_UNPACK_SECONDS = 120.0
_LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "*.py")


class LabError(Exception):
    """The lab cannot do what was asked; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Root:
    """An unpacked Asterisk with every library it needs, down to its own loader."""

    version: str
    path: Path

    @property
    def binary(self) -> Path:
        return self.path / "usr/sbin/asterisk"

    @property
    def loader(self) -> Path:
        """The dynamic loader of that suite: the host's libc is too old or too new for it."""
        found = [*self.path.glob("usr/lib/*/ld-linux-*.so.*"), *self.path.glob("usr/lib/*/ld-2.*.so")]
        if not found:
            raise LabError(f"{self.path} holds no dynamic loader; remove it, and fetch again")
        return found[0]

    @property
    def libraries(self) -> str:
        """The library path for the loader."""
        return f"{self.loader.parent}:{self.path / 'usr/lib'}"

    @property
    def modules(self) -> Path:
        for candidate in (self.loader.parent / "asterisk/modules", self.path / "usr/lib/asterisk/modules"):
            if candidate.is_dir():
                return candidate
        raise LabError(f"{self.path} holds no Asterisk modules; remove it, and fetch again")

    @property
    def data(self) -> Path:
        return self.path / "usr/share/asterisk"


def suite_of(version: str) -> str:
    """Name the Debian suite of a major version; LabError where the lab has none."""
    try:
        return SUITES[version]
    except KeyError:
        raise LabError(f"the lab has Asterisk {' and '.join(SUITES)}, not {version!r}") from None


def require_tools(tools: Mapping[str, str] = _TOOLS) -> None:
    """See that programs (each with its package) are there: as root they are installed, else LabError names the command.

    Unless named otherwise these are the lab's: SIPp and patchelf.
    """
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise LabError(f"the tests need {', '.join(missing)}: run as root: {' '.join(command)}")
    with locked("tools"):
        try:
            _run(command)
        except LabError:
            # A container image often comes without package lists.
            _run(["apt-get", "update", "-qq"])
            _run(command)


def fetch(version: str) -> Root:
    """Unpack that Asterisk, or find it unpacked already. LabError where the packages cannot be had."""
    suite = suite_of(version)
    root = Root(version, ROOTS / suite)
    with locked(suite):
        if not root.binary.exists():
            _fetch(suite, root.path)
    return root


def _fetch(suite: str, target: Path) -> None:
    print(f"lab: fetching Asterisk from Debian {suite} …", file=sys.stderr)
    apt = target.with_name(f"{target.name}.apt")
    fresh = target.with_name(f"{target.name}.new")
    for leftover in (apt, fresh, target):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        archives = _download(suite, apt)
        _unpack(archives, fresh)
        sums = "".join(f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in archives)
        target.with_name(f"{target.name}.sha256").write_text(sums)
        fresh.rename(target)
    finally:
        shutil.rmtree(apt, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)


def _download(suite: str, apt: Path) -> list[Path]:
    """Let apt resolve and download with a state of its own, so that the host's lists and packages stay untouched."""
    for folder in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log"):
        (apt / folder).mkdir(parents=True)
    (apt / "state/status").touch()
    (apt / "etc/sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n")
    config = apt / "apt.conf"
    config.write_text(
        f'Dir::Etc "{apt}/etc";\n'
        f'Dir::Etc::sourcelist "{apt}/etc/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State "{apt}/state";\n'
        f'Dir::State::status "{apt}/state/status";\n'
        f'Dir::Cache "{apt}/cache";\n'
        f'Dir::Log "{apt}/log";\n'
        'APT::Install-Recommends "false";\n'
        f'APT::Sandbox::User "{"root" if os.geteuid() == 0 else ""}";\n'
        'Acquire::Languages "none";\n'
        # An old suite's index is long past its date, and still the right one.
        'Acquire::Check-Valid-Until "false";\n'
        'Debug::NoLocking "true";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(config)}
    try:
        _run(["apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"], environment)
        _run(["apt-get", "install", "-y", "-qq", "--download-only", *_ASTERISK], environment)
    except LabError as error:
        raise LabError(f"the packages of Debian {suite} cannot be had from {mirror()}: {error}") from None
    return sorted((apt / "cache/archives").glob("*.deb"))


def mirror() -> str:
    """Take the mirror that the host's apt already uses: the lab names no host of its own."""
    if chosen := os.environ.get(_MIRROR_VARIABLE):
        return chosen
    listed = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"]
    ).splitlines()
    for line in listed:
        uri, _, release = line.partition(" ")
        # Without package lists apt knows no origin, and the path has to tell.
        if release.strip() == "Debian Debian" or (not release.strip() and uri.rstrip("/").endswith("/debian")):
            return uri
    raise LabError(f"apt on this machine has no Debian mirror; set {_MIRROR_VARIABLE} to one")


def _unpack(archives: Sequence[Path], root: Path) -> None:
    # Old suites are unpacked with merged /usr too: one library directory for the loader.
    for folder in ("lib", "lib64", "bin", "sbin"):
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as package:
            assert package.stdout is not None
            tar = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
            subprocess.run(
                [*tar, *(f"--exclude={pattern}" for pattern in _LEFT_OUT)],
                stdin=package.stdout,
                check=True,
                timeout=_UNPACK_SECONDS,
            )
        if package.returncode:
            raise LabError(f"dpkg-deb cannot read {archive.name}")
    (root / "usr/share/asterisk/moh").mkdir(parents=True, exist_ok=True)


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Run to the end within the deadline and return what it printed; LabError with its complaint."""
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_APT_SECONDS, check=False
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not on this machine: the lab needs a Debian, or a relative of it") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} did not end within {_APT_SECONDS:.0f} s") from None
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock among all labs of this checkout, whatever process they are started from."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    with (ROOTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
