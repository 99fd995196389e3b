"""A served daemon for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.api.house import House, Template, make_template, open_house
from tests.contract.api.house_on_postgres import postgres_keys, postgres_template

__all__ = ["postgres_keys", "postgres_template"]


@pytest.fixture(scope="package")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The store that each test's is a copy of. Its keys are cheap to check: their cost is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dialerd.store.keys._SCRYPT_N", 2)
        yield asyncio.run(make_template(tmp_path_factory.mktemp("api")))


@pytest.fixture
async def house(template: Template, tmp_path: Path) -> AsyncIterator[House]:
    """A daemon without calls, with its API on a socket of the loopback."""
    async with open_house(template, tmp_path) as opened:
        yield opened
