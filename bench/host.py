"""Which machine, which versions and which commit: what figures mean nothing without."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path

import aiohttp

from dialerd import __version__
from dialerd.clock import SystemClock

_ROOT = Path(__file__).resolve().parents[1]
_MEASURED = ("dialerd", "bench/*.py", "tests/lab", "asterisk-conf", "requirements.lock")
"""What a figure depends on: where it was changed since the commit, the commit alone does not say what was measured."""
_SECONDS = 10.0


def machine() -> dict[str, str]:
    """Processor, cores, memory, kernel, and the versions that are the same for all benchmarks."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field(Path('/proc/meminfo'), 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "dialerd": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "aiohttp": aiohttp.__version__,
    }


def commit() -> str:
    """The commit that is measured; with a word where the code was changed since."""
    head = _git("rev-parse", "--short=10", "HEAD")
    if not head:
        return "unknown"
    return f"{head} and changes" if _git("status", "--porcelain", "--", *_MEASURED) else head


def date() -> str:
    """Now, in UTC, to the minute."""
    return SystemClock().wall().strftime("%Y-%m-%d %H:%M UTC")


def load() -> float:
    """Processes that ran or waited for a core, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def filesystem(folder: Path) -> str:
    """The kind of file system that a folder lies on: what a commit has to wait for."""
    found = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(folder)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _git(*words: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    return subprocess.run(
        [git, "-C", str(_ROOT), *words], capture_output=True, text=True, timeout=_SECONDS, check=False
    ).stdout.strip()


def _field(file: Path, name: str) -> str:
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
