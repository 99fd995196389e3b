"""docs/cli.md: its transcript is run, and every command that it or docs/doctor.md names is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from dialerd.cli import main
from tests.contract.client.conftest import Terminal

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/cli.md"
_ID = re.compile(r"\b[0-9a-hjkmnp-tv-z]{13}\b")
_BYTES = re.compile(r"\d+ bytes")
LEFT_OUT = "…\n"
"""In the page: the rest of an answer is not shown."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z")


def blocks(page: str, kind: str) -> list[str]:
    """The fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def transcript(page: str) -> list[tuple[str, str]]:
    """Every command with what it prints."""
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ dialerd ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def plain(text: str) -> str:
    """Without what differs from run to run, and without the widths of columns."""
    text = _BYTES.sub("<bytes>", _TIME.sub("<time>", _ID.sub("<id>", text)))
    return re.sub(" +", " ", text)


async def test_the_transcript_is_true(dialing: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text()
    monkeypatch.chdir(dialing.home)
    (dialing.home / "contacts.csv").write_text(blocks(page, "csv")[0])
    ids: dict[str, str] = {}
    steps = transcript(page)

    def ours(found: re.Match[str]) -> str:
        return ids.get(found[0], found[0])

    for command, expected in steps:
        typed = _ID.sub(ours, command)
        result = await dialing.run(*shlex.split(typed), key="admin")
        shown, cut, _ = plain(expected).partition(LEFT_OUT)
        assert plain(result.output)[: len(shown) if cut else None] == shown, command
        ids.update(zip(_ID.findall(expected), _ID.findall(result.output), strict=True))
    assert len(steps) >= 12


def named(page: Path) -> list[str]:
    """Every command line of a page, in a block or indented."""
    return re.findall(r"^(?:    |\$ )dialerd (.*)$", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for name in ("cli.md", "doctor.md") for line in named(ROOT / "docs" / name)])
def test_every_command_is_one(line: str) -> None:
    arguments = shlex.split(line.partition("  #")[0])
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, line
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(command.name, arguments, parent=context)


def commands(group: click.Group, path: str = "") -> list[str]:
    """Every command by its whole name."""
    found = []
    for name, command in group.commands.items():
        whole = f"{path} {name}".strip()
        found += commands(command, whole) if isinstance(command, click.Group) else [whole]
    return found


def test_every_command_is_in_the_page() -> None:
    page = PAGE.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for whole in commands(main):
        group, _, name = whole.rpartition(" ")
        wanted = f"`{whole}`" if not group else f"`{name}`"
        assert any(wanted in row or f"`{whole}`" in row for row in rows) or f"`{whole}`" in page, whole
