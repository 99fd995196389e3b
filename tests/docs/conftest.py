"""The lab, for the pages that want a real Asterisk, and the tools that pages use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.worlds import Keys
from tests.integration.conftest import lab
from tests.lab.lab import Lab
from tests.lab.packages import require_tools

__all__ = ["keys", "lab", "running_lab", "tools"]


@pytest.fixture(scope="package")
def running_lab() -> Iterator[Lab]:
    """A lab that is up for all pages."""
    with Lab("22") as lab:
        yield lab


@pytest.fixture(scope="session")
def tools() -> None:
    """What commands of the pages need beside dialerd itself; installed where it is missing and we may."""
    require_tools({"curl": "curl", "jq": "jq", "sqlite3": "sqlite3", "php": "php-cli"})


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A store with keys, for the daemons of all pages."""
    return Keys.make(tmp_path_factory.mktemp("keys"))
