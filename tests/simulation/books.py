"""The store's tables, read with plain SQL behind the daemon's back: what counters and streams are held against."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_OF_CAMPAIGNS = (
    *("callback", "call", "contact_outcome", "contact_number", "contact", "import_reject", "contact_import"),
    *("campaign_stats", "campaign", "agent", "do_not_call"),
)


@dataclass
class Books:
    """All rows of the tables that the laws speak of."""

    campaigns: dict[int, Row]
    contacts: dict[int, Row]
    calls: dict[str, Row]
    events: list[Row]
    stats: dict[int, Row]
    outcomes: list[Row]

    def calls_of_contacts(self) -> dict[int, list[Row]]:
        """The attempts of each contact, in order."""
        found: dict[int, list[Row]] = defaultdict(list)
        for call in sorted(self.calls.values(), key=lambda each: each["attempt"]):
            found[call["contact_id"]].append(call)
        return found

    def log(self) -> str:
        """Everything that was committed, as text: two runs of one seed must not differ in a byte of it."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for table in (self.events, list(self.calls.values()), list(self.contacts.values()), list(self.stats.values())):
            for row in table:
                yield repr(sorted(row.items()))


def read(path: Path) -> Books:
    """Read a store's file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row

        def rows(table: str, order: str) -> list[Row]:
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]

        campaigns = {row["id"]: row for row in rows("campaign", "id")}
        return Books(
            campaigns=campaigns,
            contacts={row["id"]: row for row in rows("contact", "id")},
            calls={row["id"]: row for row in rows("call", "id")},
            events=[row for row in rows("event", "seq") if row["campaign_id"] in campaigns],
            stats={row["campaign_id"]: row for row in rows("campaign_stats", "campaign_id")},
            outcomes=rows("contact_outcome", "campaign_id, outcome, status"),
        )


def archive(path: Path) -> None:
    """Take out of a store what its owner keeps elsewhere: all campaigns with their calls and events, but for the last.

    Between two daemons, as a nightly job would: the numbers of events go on from the last one.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM event WHERE seq < (SELECT max(seq) FROM event)")
        for table in _OF_CAMPAIGNS:
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
