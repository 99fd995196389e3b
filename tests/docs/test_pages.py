"""docs/: every command of a page is run, and prints what the page says; :mod:`tests.docs.page` has the form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs import worlds
from tests.docs.matching import Names
from tests.docs.page import DOCS, RUN_KINDS, Block, Page, pages, read_page
from tests.docs.shell import Shell
from tests.docs.worlds import Keys, World
from tests.lab.lab import Lab

UPDATE = os.environ.get("UPDATE_DOCS") == "1"
"""Write what was printed into the page, instead of failing."""
MOST_NOT_RUN = 0.2
"""Of all blocks with commands; each has its reason beside it."""


def named(*of: str) -> list[Path]:
    """The pages of these worlds."""
    return [path for path in pages() if read_page(path).world in of]


def name(path: Path) -> str:
    """A page's name for the test's id."""
    return str(path.relative_to(DOCS))


class Reading:
    """Somebody who does what a page says."""

    def __init__(self, page: Page, world: World, shell: Shell) -> None:
        self.page = page
        self.world = world
        self.shell = shell
        self.names = Names()
        self._changes: list[tuple[Block, str]] = []

    async def read(self) -> None:
        """Run every block in order."""
        for block in self.page.blocks:
            if block.note in ("file", "append"):
                self._write(block)
            elif block.note == "background":
                [step] = block.steps()
                await self.shell.leave_running(self._typed(step.command), self.world.folder / "background.log")
            elif block.kind == "console" and block.is_run:
                await self._console(block)
            elif block.is_run:
                await self._program(block)
        if self._changes:
            self._rewrite()

    def _write(self, block: Block) -> None:
        path = self.world.folder / self.world.ours(block.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if block.note == "append" else "w") as file:
            file.write(self._typed(block.text))

    async def _console(self, block: Block) -> None:
        shown = []
        for step in block.steps():
            status, printed = await self.shell.run(self._typed(step.command))
            printed = self.world.theirs(printed)
            where = f"{self.page.path.name}, line {block.line}: {step.command}"
            if self.names.matches(step.printed, printed):
                shown.append(step.printed)
            elif UPDATE:
                shown.append(printed.rstrip() + "\n" if printed.strip() else "")
                self.names.matches(printed, printed)
            else:
                log = self.world.folder / "background.log"
                tail = log.read_text()[-3000:] if log.exists() else ""
                pytest.fail(
                    f"{where}\nstatus {status}, printed:\n{printed}\nbut the page shows:\n{step.printed}\n{tail}"
                )
        text = "".join(f"$ {step.command}\n{out}" for step, out in zip(block.steps(), shown, strict=True))
        if text != block.text:
            self._changes.append((block, text))

    async def _program(self, block: Block) -> None:
        runner = {"sh": "bash -e", "python": "python3", "php": "php"}[block.kind]
        path = self.world.folder / f"block-{block.line}"
        path.write_text(self._typed(block.text))
        status, printed = await self.shell.run(f"{runner} {path}")
        assert status == 0, f"{self.page.path.name}, line {block.line}: status {status}\n{printed}"

    def _typed(self, text: str) -> str:
        return self.names.typed(self.world.ours(text))

    def _rewrite(self) -> None:
        text = self.page.path.read_text()
        for block, fresh in self._changes:
            text = text.replace(f"```console\n{block.text}```", f"```console\n{fresh}```", 1)
        self.page.path.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("path", named("simulated"), ids=name)
async def test_with_a_daemon(path: Path, tmp_path: Path, tools: None, keys: Keys) -> None:
    async with worlds.simulated(tmp_path, keys) as world, Shell(world.folder, world.environ) as shell:
        await Reading(read_page(path), world, shell).read()


@pytest.mark.slow
@pytest.mark.parametrize("path", named("freeswitch"), ids=name)
async def test_on_a_freeswitchs_stand_in(path: Path, tmp_path: Path, tools: None) -> None:
    async with worlds.freeswitch(tmp_path) as world, Shell(world.folder, world.environ) as shell:
        await Reading(read_page(path), world, shell).read()


@pytest.mark.lab
@pytest.mark.parametrize("path", named("lab", "asterisk"), ids=name)
async def test_on_a_real_asterisk(path: Path, tmp_path: Path, tools: None, lab: Lab) -> None:
    page = read_page(path)
    around = worlds.lab if page.world == "lab" else worlds.asterisk
    async with around(tmp_path, lab) as world, Shell(world.folder, world.environ) as shell:
        await Reading(page, world, shell).read()


def test_every_page_says_what_it_is_run_in() -> None:
    for path in pages():
        page = read_page(path)
        assert page.world in ("simulated", "lab", "asterisk", "freeswitch") or page.reason, path


def test_few_blocks_are_not_run_and_each_has_a_reason() -> None:
    read = [page for page in map(read_page, pages()) if page.world is not None]
    blocks = [block for page in read for block in page.blocks if block.kind in RUN_KINDS]
    left_out = [block for block in blocks if not block.is_run]
    assert all(len(block.value) > 10 for block in left_out)
    assert len(left_out) <= MOST_NOT_RUN * len(blocks)
