"""The fenced blocks of a page of docs/, and what its comments say about each.

A page begins with ``<!-- tested: WORLD -->`` (see :mod:`tests.docs.worlds`), or ``<!-- not tested: REASON -->``. Before
a block may stand, in a comment of its own:

- ``file: PATH``: the block is that file, written before the next command is run; ``append: PATH`` adds to one;
- ``background``: its one command runs until the page is through;
- ``not run: REASON``.

Blocks of kind ``console`` are commands after ``$ `` with what they print; ``sh``, ``python`` and ``php`` are whole
programs that must succeed. Other kinds are shown only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_KINDS = frozenset({"console", "sh", "python", "php"})

_FENCE = re.compile(r"^(?:<!-- (?P<note>[^\n]*) -->\n+)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(r"\A<!-- (tested|not tested): (.+) -->$", re.MULTILINE)


class PageError(Exception):
    """A page that does not keep to the form above."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what the page shows of its output."""

    command: str
    printed: str


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    kind: str
    text: str
    line: int
    note: str = ""
    """``file``, ``append``, ``background`` or ``not run``; empty: a block as any other."""
    value: str = ""
    """The path, or the reason."""

    @property
    def is_run(self) -> bool:
        """Whether something happens with this block."""
        return self.note in ("file", "append") or (self.kind in RUN_KINDS and self.note != "not run")

    def steps(self) -> list[Step]:
        """The commands of a ``console`` block. A line that ends with a backslash goes on on the next."""
        found: list[Step] = []
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        if parts[0].strip():
            raise PageError(f"line {self.line}: a console block begins with a command")
        for part in parts[1:]:
            matched = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", part)
            assert matched is not None
            command = matched[0]
            if heredoc := re.search(r"<<'?(\w+)'?", command):
                end = part.index(f"\n{heredoc[1]}\n") + len(heredoc[1]) + 2
                command = part[:end]
            found.append(Step(command.rstrip("\n"), part[len(command) :]))
        return found


@dataclass(slots=True)
class Page:
    """A page with its blocks in order."""

    path: Path
    world: str | None
    """None: not tested."""
    reason: str = ""
    blocks: list[Block] = field(default_factory=list)


def read_page(path: Path) -> Page:
    """Read a page; without a head it has neither a world nor a reason, which a test finds."""
    text = path.read_text()
    head = _HEAD.match(text)
    kind, said = (head[1], head[2]) if head is not None else ("", "")
    page = Page(path, said if kind == "tested" else None, said if kind == "not tested" else "")
    for found in _FENCE.finditer(text):
        note, _, value = (found["note"] or "").partition(": ")
        if note not in ("", "file", "append", "background", "not run"):
            note, value = "", ""
        line = text.count("\n", 0, found.start("text"))
        page.blocks.append(Block(found["kind"], found["text"], line, note, value))
    return page


def pages() -> list[Path]:
    """Every page of docs/ that shows commands, by its path."""
    return sorted(
        each
        for each in DOCS.rglob("*.md")
        if re.search(rf"^```(?:{'|'.join(RUN_KINDS)})$", each.read_text(), re.MULTILINE)
    )
