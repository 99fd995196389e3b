"""The API's own tests once more, on a daemon whose store is PostgreSQL: what it answers is the same."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.contract.api import (
    test_callbacks,
    test_campaigns,
    test_contacts,
    test_do_not_call,
    test_idempotency,
    test_webhooks,
)
from tests.contract.api.house import Template, make_store
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres

for _module in (
    test_callbacks,
    test_campaigns,
    test_contacts,
    test_do_not_call,
    test_idempotency,
    test_webhooks,
):
    for _name, _test in tuple(vars(_module).items()):
        if _name.startswith("test_"):
            globals()[f"{_name}__{_module.__name__.rpartition('test_')[2]}"] = _test

promises = test_callbacks.promises
"""A fixture of theirs."""

_numbers = itertools.count()


@dataclass
class PostgresTemplate(Template):
    """A database with the keys, copied for each test by the server itself."""

    cluster: Cluster
    name: str
    made: dict[Path, str] = field(default_factory=dict)
    """The database of each test, by its folder."""

    def url(self, folder: Path, *, fresh: bool) -> str:
        if fresh:
            self.made[folder] = f"api_{os.getpid()}_{next(_numbers)}"
            self.cluster.create(self.made[folder], self.name)
        return self.cluster.url(self.made[folder])


@pytest.fixture(scope="module")
def template(postgres: Cluster) -> Iterator[PostgresTemplate]:
    """In the place of the SQLite file that the other modules' stores are copies of."""
    name = f"api_{os.getpid()}"
    url = postgres.create(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dialerd.store.keys._SCRYPT_N", 2)
        made = PostgresTemplate(Path(), asyncio.run(make_store(url)), postgres, name)
        yield made
    postgres.drop(name)


@pytest.fixture(autouse=True)
def _dropped(template: PostgresTemplate) -> Iterator[None]:
    yield
    for name in template.made.values():
        template.cluster.drop(name)
    template.made.clear()
