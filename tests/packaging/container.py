"""A Debian 12 with a systemd of its own, thrown away after use; its root is made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "systemd", "systemd-sysv", "dbus", "make", "sudo")
"""What a server has, and what `make install` asks for."""
TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}
_ROOT_SECONDS = 600.0
_BOOT_SECONDS = 60.0
_COMMAND_SECONDS = 900.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotRun(Exception):
    """This machine cannot run the container; the message says what to do about it."""


def require_tools() -> None:
    """See that the tools are there; they are installed where they are not. Raises CannotRun."""
    if os.geteuid() != 0:
        raise CannotRun("a container needs root: sudo make test-deb")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run(["apt-get", "update", "-qq"], seconds=_ROOT_SECONDS, environ=environ)
        _run(["apt-get", "install", "-qq", "-y", *missing], seconds=_ROOT_SECONDS, environ=environ)


def root_archive() -> Path:
    """The archive of a fresh root, made from this machine's own package mirror where there is none yet."""
    name = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dialerd-tests"
    archive = folder / f"{SUITE}-{name}.tar"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"]
        mirrors = _run(asked, seconds=_COMMAND_SECONDS).split()
        if not mirrors:
            raise CannotRun(f"apt on this machine knows no mirror of Debian's {SUITE}")
        fresh = archive.with_name(f"{archive.name}.{os.getpid()}.tar")
        included = f"--include={','.join(PACKAGES)}"
        _run(["mmdebstrap", "--quiet", "--variant=apt", included, SUITE, str(fresh), mirrors[0]], seconds=_ROOT_SECONDS)
        fresh.rename(archive)
    return archive


@dataclass
class Container:
    """A booted root. A context manager: it boots on the way in, and is gone on the way out."""

    folder: Path
    source: Path
    """Seen inside, read-only, as /src."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """Its /."""
        return self.folder / "root"

    def __enter__(self) -> Container:
        require_tools()
        self.root.mkdir()
        _run(["tar", f"--directory={self.root}", "--extract", f"--file={root_archive()}"], seconds=_ROOT_SECONDS)
        (self.root / "etc/machine-id").write_text("")
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network"),
                    *("--console=pipe", f"--machine=dialerd-test-{os.getpid()}", f"--directory={self.root}"),
                    *(f"--bind-ro={self.source}:/src", "--boot"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_for_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, ok: Sequence[int] = (0,), user: str | None = None) -> str:
        """Run a command inside; returns what it printed on standard output. It must end with one of these statuses."""
        done = self.try_run(*command, user=user)
        assert done.returncode in ok, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def try_run(self, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside, however it ends."""
        as_user = ["runuser", "-u", user, "--"] if user is not None else []
        enter = ["nsenter", f"--target={self._leader()}", "--mount", "--uts", "--ipc", "--pid", "--net", "--cgroup"]
        environ = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        return subprocess.run(
            [*enter, *environ, *as_user, *command],
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def files(self) -> set[str]:
        """All files but those that the system itself writes while it lives."""
        lib = ("var/lib/dpkg/", "var/lib/systemd/")
        left_out = ("var/log/", "var/cache/", *lib, "run/", "proc/", "sys/", "dev/", "tmp/")
        found = (str(each.relative_to(self.root)) for each in self.root.rglob("*") if not each.is_dir())
        # Copies that useradd and its like leave of what they changed.
        return {each for each in found if not each.startswith(left_out) and not each.endswith("-")}

    def _leader(self) -> str:
        """Its first process."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            raise CannotRun(f"the container did not boot: {(self.folder / 'console').read_text(errors='replace')}")
        return children[0]

    def _wait_for_boot(self) -> None:
        """Wait for systemd inside to have started all that it starts."""
        assert self._process is not None
        # What runs inside says when: --wait returns with the end of the boot. Before that there is nobody to ask.
        asked = ["systemctl", "is-system-running", "--wait"]
        for _ in range(int(_BOOT_SECONDS / 0.5)):
            if self._process.poll() is not None:
                raise CannotRun(f"the container ended: {(self.folder / 'console').read_text(errors='replace')}")
            try:
                said = self.try_run(*asked).stdout.strip()
            except CannotRun:
                said = ""
            if said in ("running", "degraded"):
                return
            try:
                self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        raise CannotRun("the container's systemd does not come up")

    def _end(self) -> None:
        if self._process is not None:
            # SIGTERM asks the container to shut down in order, and kills what does not.
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
        shutil.rmtree(self.root, ignore_errors=True)


def _run(command: Sequence[str], *, seconds: float, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(command[:2])} … failed:\n{done.stdout}{done.stderr}")
    return done.stdout
