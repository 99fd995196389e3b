"""A real PostgreSQL of the tests' own: Debian's package, a cluster in a temporary folder, one for a run's workers."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import packages

PACKAGE = "postgresql-15"
_BINARIES = Path("/usr/lib/postgresql")
_OLDEST = 14
_DEBIAN_USER = "postgres"
_SECONDS = 120.0
_APT_SECONDS = 600.0
# The package would make a cluster of the host's own and start it.
_CREATE_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
_FAST = ("fsync=off", "full_page_writes=off")
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "shared_buffers=64MB",
    "autovacuum_naptime=1h",
    "logging_collector=off",
)
# Words of a person's language are compared otherwise than bytes: a column that forgot its collation is found out.
_LOCALE = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
USER, PASSWORD = "dialerd", "s3cret-of-postgres"


class PostgresError(Exception):
    """The tests' PostgreSQL cannot be had; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL server in a folder of its own, on a port of the loopback."""

    folder: str
    port: int
    user: str
    """Of the system, whom the server runs as: it refuses root."""
    fsync: bool = False

    @classmethod
    def make(cls, *, fsync: bool = False) -> Cluster:
        """Initialise a cluster and start its server. Raises PostgresError."""
        binaries()
        user = _DEBIAN_USER if os.geteuid() == 0 else getpass.getuser()
        folder = tempfile.mkdtemp(prefix="dialerd-postgres-")
        shutil.chown(folder, user)
        made = cls(folder, free_port(), user, fsync)
        try:
            password = Path(folder, "password")
            password.write_text(PASSWORD)
            shutil.chown(password, user)
            options = ("--username", USER, "--pwfile", str(password), "--auth=scram-sha-256")
            made._run("initdb", "--pgdata", made.data, *options, *_LOCALE, "--no-sync")
            made.start()
        except BaseException:
            made.remove()
            raise
        return made

    @property
    def data(self) -> str:
        """The folder of the cluster's files."""
        return f"{self.folder}/data"

    def url(self, database: str) -> str:
        """The URL of a database, as the configuration has it."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = (*_SETTINGS, *(() if self.fsync else _FAST), f"port={self.port}")
        options = " ".join(f"-c {each}" for each in (*settings, f"unix_socket_directories={self.folder}"))
        self._run("pg_ctl", "--pgdata", self.data, "--log", f"{self.folder}/log", "-w", "--options", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``immediate`` is a crash, of which the next start recovers."""
        self._run("pg_ctl", "--pgdata", self.data, "--mode", mode, "-w", "stop")

    def freeze(self, backend: int | None = None) -> None:
        """Let the server (or one of its processes) answer nothing any more, with all its sockets open."""
        os.kill(self.pid if backend is None else backend, signal.SIGSTOP)

    def thaw(self, backend: int | None = None) -> None:
        """Let it go on."""
        os.kill(self.pid if backend is None else backend, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int(Path(self.data, "postmaster.pid").read_text().split()[0])

    def remove(self) -> None:
        """Stop the server and remove its files. Harmless when it is not running."""
        if Path(self.data, "postmaster.pid").exists():
            with contextlib.suppress(PostgresError):
                self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run statements by psql, each in a transaction of its own; returns what it prints, bare."""
        commands = [word for each in statements for word in ("--command", each)]
        address = ("--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--dbname", database)
        options = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1")
        return self._run("psql", *address, *options, *commands).strip()

    def create(self, database: str, template: str | None = None) -> str:
        """Make a database, empty or as a copy; returns its URL."""
        self.sql(f'CREATE DATABASE "{database}" TEMPLATE "{template or "template0"}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected."""
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def _run(self, program: str, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD, "HOME": self.folder}
        other = self.user if os.geteuid() == 0 else None
        return _run([str(binaries() / program), *arguments], environment, user=other, folder=self.folder)


def binaries() -> Path:
    """The folder of PostgreSQL's programs: as root the package is installed, else PostgresError names the command."""
    found = _newest()
    if found is None:
        _install()
        found = _newest()
    if found is None:
        raise PostgresError(f"{PACKAGE} is installed, and {_BINARIES} holds no PostgreSQL from {_OLDEST} on")
    return found


def _newest() -> Path | None:
    versions = [each for each in _BINARIES.glob("*/bin/initdb") if each.parts[-3].isdigit()]
    versions = [each for each in versions if int(each.parts[-3]) >= _OLDEST]
    return max(versions, key=lambda each: int(each.parts[-3])).parent if versions else None


def _install() -> None:
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE]
    if os.geteuid() != 0:
        raise PostgresError(f"the tests need {PACKAGE}: run as root: {' '.join(command)}")
    with packages.locked("tools"):  # apt's own lock turns the second one away
        if _newest() is not None:
            return
        if not _CREATE_CLUSTER.exists():
            _CREATE_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
            _CREATE_CLUSTER.write_text("create_main_cluster = false\n")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            _run(command, environment, seconds=_APT_SECONDS)
        except PostgresError:
            # A container image often comes without package lists.
            _run(["apt-get", "update", "-qq"], environment, seconds=_APT_SECONDS)
            _run(command, environment, seconds=_APT_SECONDS)


class Shared:
    """One cluster for all workers of a test run: the first who needs it starts it, the run's end removes it."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the run's, the same for all its workers."""
        self._note = folder / "postgres.json"

    def get(self) -> Cluster:
        """The run's cluster, started if it is not yet. Raises PostgresError."""
        with locked("shared", self._note.parent):
            if not self._note.exists():
                self._note.write_text(json.dumps(asdict(Cluster.make())))
            return Cluster(**json.loads(self._note.read_text()))

    def remove(self) -> None:
        """Remove the run's cluster, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            Cluster(**json.loads(self._note.read_text())).remove()
            self._note.unlink()


@contextlib.contextmanager
def locked(name: str, folder: Path | None = None) -> Iterator[None]:
    """Hold a lock among processes."""
    with Path(folder or tempfile.gettempdir(), f"dialerd-postgres-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port: int = some.getsockname()[1]
        return port


def _run(
    command: Sequence[str],
    environment: dict[str, str],
    *,
    user: str | None = None,
    folder: str | None = None,
    seconds: float = _SECONDS,
) -> str:
    """Run to the end within the deadline and return what it printed; PostgresError with its complaint."""
    # Files, not pipes: the server inherits them, and would hold a pipe open.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complained:
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=complained,
                timeout=seconds,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PostgresError(f"{command[0]} did not end within {seconds:.0f} s") from None
        told.seek(0)
        complained.seek(0)
        output = told.read().decode(errors="replace")
        if done.returncode:
            words = (complained.read().decode(errors="replace") or output).strip()[-800:]
            raise PostgresError(f"{' '.join(command[:4])} … failed: {words}")
        return output
