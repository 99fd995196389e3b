"""The machine that the daemon runs on: its clock, its zones, its file limits, and who may read what."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from dialerd.config import Config
from dialerd.doctor.findings import Finding, error, note, ok, warning

_COMMAND_SECONDS = 5.0
_UNIT = "dialerd.service"
_SPARE_FILES = 256
"""Descriptors beside clients and PBX links: the store's connections, spooled uploads, the process's own."""
_CLIENTS = 1000
"""Clients of the API at once, event streams included, that a limit should leave room for."""
_OTHERS = stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """A limit of open files, and whose it is."""

    limit: int
    of_unit: bool
    """It is the systemd unit's; else that of whoever runs the doctor."""


@dataclass(frozen=True, slots=True)
class FileMode:
    """A file as it lies there."""

    path: Path
    owner: str
    mode: int


async def clock_synchronised() -> bool | None:
    """Ask timedatectl whether the clock follows a time server; None where it does not tell."""
    said = await _say("timedatectl", "show", "--property", "NTPSynchronized", "--value")
    return {"yes": True, "no": False}.get(said or "")


def check_clock(synchronised: bool | None) -> Finding:
    """Callbacks, calling hours and retries go by the wall clock."""
    if synchronised is None:
        return note("clock.sync", "whether the clock follows a time server cannot be told here (timedatectl is silent)")
    if not synchronised:
        return warning(
            "clock.sync",
            "the clock follows no time server: calling hours drift with it",
            "run: timedatectl set-ntp true",
        )
    return ok("clock.sync", "the clock follows a time server")


def check_zones(names: Iterable[str]) -> Iterator[Finding]:
    """Every zone that settings name must have its data: without it the calling hours cannot be told."""
    wanted = sorted(set(names))
    missing = [name for name in wanted if not _has_zone(name)]
    for name in missing:
        yield error(
            "clock.zones",
            f"there is no data of time zone {name}",
            "install the zones: apt install tzdata, or pip's tzdata",
        )
    if not missing:
        yield ok("clock.zones", f"data of all zones in use: {', '.join(wanted)}")


def _has_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return False
    except KeyError:
        return False
    return True


async def open_files() -> OpenFiles:
    """The limit of the systemd unit where there is one, else our own."""
    said = await _say("systemctl", "show", _UNIT, "--property", "LoadState", "--property", "LimitNOFILE")
    told = dict(line.split("=", 1) for line in (said or "").splitlines() if "=" in line)
    if told.get("LoadState") == "loaded" and told.get("LimitNOFILE", "").isdigit():
        return OpenFiles(int(told["LimitNOFILE"]), of_unit=True)
    return OpenFiles(resource.getrlimit(resource.RLIMIT_NOFILE)[0], of_unit=False)


def check_open_files(files: OpenFiles, config: Config) -> Finding:
    """Each client and each link is a descriptor; a call is none of ours, but its events must reach its watchers."""
    channels = sum(pbx.max_channels for pbx in config.pbx.values())
    needed = _CLIENTS + _SPARE_FILES + len(config.pbx) + min(channels, _CLIENTS)
    whose = _UNIT if files.of_unit else "this shell"
    # RLIM_INFINITY is -1.
    if 0 <= files.limit < needed:
        return warning(
            "host.open_files",
            f"{whose} may open {files.limit} files; {channels} channels with {_CLIENTS} clients want {needed}",
            f"{_UNIT} [Service] LimitNOFILE = {max(65_536, needed)}",
        )
    return ok("host.open_files", f"{whose} may open {files.limit if files.limit >= 0 else 'any number of'} files")


def file_mode(path: Path) -> FileMode | None:
    """Look at a file; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return FileMode(path, owner, stat.S_IMODE(found.st_mode))


def check_private(check: str, file: FileMode, holds: str) -> Finding:
    """A file that holds secrets or people's data is nobody else's to read."""
    if file.mode & _OTHERS:
        return warning(
            check,
            f"{file.path} holds {holds}, and everybody may read it ({file.mode:04o})",
            f"run: chmod o-rwx {file.path}",
        )
    return ok(check, f"{file.path} is {file.owner}'s ({file.mode:04o})")


def free_bytes(folder: Path) -> int | None:
    """Free space where a folder lies; None where it is not there."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


async def _say(*command: str) -> str | None:
    """Run a command and return what it says; None where it is not there, fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return said.decode(errors="replace").strip() if process.returncode == 0 else None
