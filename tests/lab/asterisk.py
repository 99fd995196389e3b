"""One Asterisk process of the lab: its configuration, its start through its own loader, its readiness, its end."""

from __future__ import annotations

import resource
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dialerd.clock import SystemClock
from tests.lab.packages import LabError, Root
from tests.lab.ports import HOST, Ports
from tests.lab.processes import Process, spawn

_CONF = Path(__file__).resolve().parent / "conf"
ASTERISK_CONF = Path(__file__).resolve().parents[2] / "asterisk-conf"
"""The files that dialerd ships for administrators: the lab runs with these."""

DIALERD_SECRET = "lab-dialerd"
FULL_SECRET = "dialersecret"

_CARRIER = "sip.carrier.example"
# Modules read these; empty ones are enough.
_EMPTY = ("ccss", "cdr", "cel", "codecs", "dsp", "features", "http", "musiconhold", "pjproject", "stasis", "udptl")
_OPEN_FILES = 65_536
_READY_SECONDS = 60.0
_STOP_SECONDS = 5.0
_CLI_SECONDS = 15.0
_clock = SystemClock()


class Asterisk:
    """A real Asterisk with a run directory of its own; nothing of it is installed."""

    def __init__(self, root: Root, run: Path, sockets: Path, ports: Ports) -> None:
        self.root = root
        self.run = run
        self.sockets = sockets
        self.ports = ports
        self.launcher = run / "asterisk"

    def prepare(self) -> None:
        """Write configuration and launcher into the run directory."""
        for folder in ("etc", "lib", "spool", "log", "cache"):
            (self.run / folder).mkdir(parents=True, exist_ok=True)
        values = self._values()
        for source in _CONF.glob("*.conf"):
            (self.run / "etc" / source.name).write_text(_fill(source.read_text(), values))
        for name in _EMPTY:
            (self.run / "etc" / f"{name}.conf").write_text("[general]\n")
        self._adapt_example_trunk()
        self._write_launcher()

    def _values(self) -> Mapping[str, str]:
        return {
            "RUN": str(self.run),
            "SOCKETS": str(self.sockets),
            "MODULES": str(self.root.modules),
            "DATA": str(self.root.data),
            "ASTERISK_CONF": str(ASTERISK_CONF),
            "DIALERD_SECRET": DIALERD_SECRET,
            "FULL_SECRET": FULL_SECRET,
            **{name.upper(): str(port) for name, port in self.ports.as_dict().items()},
        }

    def _adapt_example_trunk(self) -> None:
        shipped = (ASTERISK_CONF / "pjsip_dialerd.conf").read_text()
        if f"contact = sip:{_CARRIER}:5060" not in shipped:
            raise LabError(f"pjsip_dialerd.conf no longer has the contact {_CARRIER}:5060 that the lab replaces")
        adapted = shipped.replace(f"{_CARRIER}:5060", f"{HOST}:{self.ports.trunk}").replace(_CARRIER, HOST)
        (self.run / "etc/pjsip_dialerd.conf").write_text(adapted)

    def _write_launcher(self) -> None:
        """Write a script that runs the binary with its own loader and libraries.

        ``core restart now`` executes argv[0] again, so argv[0] must be this script. Loaders from glibc 2.33 on can be
        told so; for older ones a copy of the binary is patched to find its loader by itself.
        """
        loader, libraries = str(self.root.loader), self.root.libraries
        if self._loader_takes_argv0(loader):
            start = [loader, "--library-path", libraries, "--argv0", str(self.launcher), str(self.root.binary)]
        else:
            patched = self.run / "asterisk.bin"
            shutil.copy(self.root.binary, patched)
            subprocess.run(
                ["patchelf", "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries, str(patched)],
                check=True,
                timeout=_CLI_SECONDS,
            )
            start = [str(patched)]
        command = shlex.join([*start, "-C", str(self.run / "etc/asterisk.conf")])
        self.launcher.write_text(f'#!/bin/sh\nulimit -n {_open_files()} 2>/dev/null\nexec {command} "$@"\n')
        self.launcher.chmod(0o755)

    @staticmethod
    def _loader_takes_argv0(loader: str) -> bool:
        said = subprocess.run([loader, "--help"], capture_output=True, text=True, timeout=_CLI_SECONDS, check=False)
        return "--argv0" in said.stdout

    def start(self) -> Process:
        """Start it and wait until it is fully booted; LabError with its log where it does not come up."""
        with _Readiness(self.sockets) as readiness:
            process = spawn(
                [str(self.launcher), "-f"],
                folder=self.run,
                output=self.run / "log/asterisk.stdout",
                environment={"HOME": str(self.run), "NOTIFY_SOCKET": readiness.address},
            )
            self._await(readiness, process)
        return process

    def restart(self, process: Process) -> None:
        """Let ``core restart now`` replace the running process (the pid stays), and wait until it is up again."""
        with _Readiness(self.sockets) as readiness:
            # The CLI's connection breaks with the restart, so its exit code says nothing.
            self._cli("core restart now")
            self._await(readiness, process)

    def _await(self, readiness: _Readiness, process: Process) -> None:
        if not readiness.wait(process, _READY_SECONDS):
            process.stop(signal.SIGKILL, _STOP_SECONDS)
            raise LabError(f"Asterisk {self.root.version} did not come up:\n{self._last_words()}")

    def stop(self, process: Process) -> None:
        process.stop(signal.SIGTERM, _STOP_SECONDS)

    def cli(self, command: str) -> str:
        """Run a CLI command and return what it prints; LabError where Asterisk cannot be asked."""
        done = self._cli(command)
        if done.returncode:
            raise LabError(f"asterisk -rx {command!r} failed: {done.stdout.strip()} {done.stderr.strip()}")
        return done.stdout

    def _cli(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.launcher), "-rx", command], capture_output=True, text=True, timeout=_CLI_SECONDS, check=False
        )

    def _last_words(self) -> str:
        logs = [self.run / "log/asterisk.stdout", self.run / "log/messages"]
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())


class _Readiness:
    """Hears Asterisk say that it is fully booted (sd_notify(3)): no polling, also over a restart."""

    def __init__(self, sockets: Path) -> None:
        self.address = str(sockets / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path(self.address).unlink(missing_ok=True)
        self._socket.bind(self.address)

    def __enter__(self) -> _Readiness:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, process: Process, seconds: float) -> bool:
        """Wait for the word, at most so long and only while the process lives."""
        deadline = _clock.mono() + seconds
        self._socket.settimeout(0.2)
        while process.alive and _clock.mono() < deadline:
            try:
                if b"READY=1" in self._socket.recv(4096):
                    return True
            except TimeoutError:
                continue
        return False


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
