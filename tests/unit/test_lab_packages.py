"""Where the lab's packages come from, and what it says where they cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.packages import LabError


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only program is an apt-get; the test writes what it does. It has no roots yet."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("LAB_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(packages, "ROOTS", tmp_path / "roots")
    return programs / "apt-get"


def _script(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        (["http://security.example/debian-security/ Debian Debian-Security", "http://a.example/x/ Debian Debian"], 2),
        # Before the first update apt knows neither origin nor label.
        (["http://other.example/ ", "http://a.example/debian "], 2),
        (["http://a.example/debian/ "], 1),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses_already(apt: Path, listed: list[str], mirror: int) -> None:
    _script(apt, *(f"echo '{line}'" for line in listed))
    assert packages.mirror() == listed[mirror - 1].split()[0]


def test_a_chosen_mirror_goes_first(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(apt, "echo 'http://a.example/debian/ Debian Debian'")
    monkeypatch.setenv("LAB_DEBIAN_MIRROR", "http://chosen.example/debian/")
    assert packages.mirror() == "http://chosen.example/debian/"


def test_a_machine_without_a_debian_mirror_is_told_how_to_name_one(apt: Path) -> None:
    _script(apt, "echo 'http://archive.example/ubuntu/ Ubuntu Ubuntu'")
    with pytest.raises(LabError, match="LAB_DEBIAN_MIRROR"):
        packages.mirror()


def test_a_machine_without_apt_is_told_so(apt: Path) -> None:
    with pytest.raises(LabError, match="apt-get is not on this machine"):
        packages.mirror()


def test_packages_that_cannot_be_had_leave_nothing_behind(apt: Path) -> None:
    _script(
        apt,
        'case "$1" in indextargets) echo "http://a.example/debian/ Debian Debian";;',
        *(
            "*) echo 'E: cannot connect' >&2; exit 100;;",
            "esac",
        ),
    )
    with pytest.raises(LabError, match=r"Debian sid cannot be had from http://a\.example/debian/.*E: cannot connect"):
        packages.fetch("22")
    assert [path.name for path in packages.ROOTS.iterdir()] == ["sid.lock"]


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(LabError, match="22 and 16, not '18'"):
        packages.fetch("18")


def test_without_root_the_missing_tools_are_named_with_the_command(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"as root: apt-get install -y --no-install-recommends sip-tester patchelf"):
        packages.require_tools()


def test_as_root_they_are_installed_after_an_update_where_the_lists_are_missing(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    calls, lists = apt.parent / "calls", apt.parent / "lists"
    _script(
        apt,
        f'echo "$*" >> {calls}',
        f'[ "$1" = update ] && : > {lists}',
        f"[ -e {lists} ] || exit 100",
    )
    packages.require_tools()
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["install", "update", "install"]
