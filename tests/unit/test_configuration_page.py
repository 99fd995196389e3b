"""docs/configuration.md is that of the models, and says of each key what it is for."""

from __future__ import annotations

import os

from tests.support.configuration_page import PAGE, page


def test_the_page_is_that_of_the_models() -> None:
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else None
    assert written == page(), "make docs/configuration.md anew: python -m tests.support.configuration_page"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |")] == []
