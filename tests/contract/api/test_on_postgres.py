"""The API's own tests once more, on a daemon whose store is PostgreSQL: what it answers is the same."""

from __future__ import annotations

import pytest

from tests.contract.api import (
    test_callbacks,
    test_campaigns,
    test_contacts,
    test_do_not_call,
    test_idempotency,
    test_nul,
    test_webhooks,
)
from tests.contract.api.house_on_postgres import PostgresTemplate

pytestmark = pytest.mark.postgres

for _module in (
    test_callbacks,
    test_campaigns,
    test_contacts,
    test_do_not_call,
    test_idempotency,
    test_nul,
    test_webhooks,
):
    for _name, _test in tuple(vars(_module).items()):
        if _name.startswith("test_"):
            globals()[f"{_name}__{_module.__name__.rpartition('test_')[2]}"] = _test


@pytest.fixture
def template(postgres_template: PostgresTemplate) -> PostgresTemplate:
    """In the place of the SQLite file."""
    return postgres_template


promises = test_callbacks.promises
"""A fixture of theirs."""
