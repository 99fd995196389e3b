"""What dialerd top draws: as much of what was seen as fits the screen, the most important first. Pure but for rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dialerd.client.text import known, moment, percent, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table
    from rich.text import Text

_GAP = 2
_SHORTEST = 12
"""Columns that a text, such as a name, is given before another column is left out for it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at one moment. A list that the key may not see is None."""

    at: float
    """Monotonic seconds."""
    trunks: Any
    campaigns: Any
    """A tenant's own, those that are active."""
    tenants: Any
    """All of them, for a system key."""
    tenant_slots: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By tenant, slots used and allowed; of the daemon's metrics."""

    def to_json(self) -> dict[str, Any]:
        """The API's own answers, side by side."""
        return {"trunks": self.trunks, "campaigns": self.campaigns, "tenants": self.tenants}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    head: str
    to_right: bool = False
    dropped: int | None = None
    """On a narrow screen those with the least number are left out first; None: never."""
    text: bool = False
    """It may be cut short."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table, as it is before anybody knows the screen."""

    columns: Sequence[Column]
    cells: Sequence[Sequence[str]]
    ill: frozenset[int] = frozenset()
    """Rows that want somebody's eye."""


TRUNKS = (
    *(Column("TRUNK"), Column("PBX", dropped=1), Column("STATE"), Column("CHANNELS", to_right=True)),
    *(Column("CALLS/S", to_right=True, dropped=3), Column("ANSWERED", to_right=True, dropped=2)),
    Column("REASON", text=True, dropped=4),
)
TENANTS = (
    *(Column("TENANT"), Column("SLOTS", to_right=True), Column("CALLS/S AT MOST", to_right=True, dropped=1)),
    Column("TRUNKS", text=True, dropped=2),
)
CAMPAIGNS = (
    *(Column("CAMPAIGN", dropped=5), Column("NAME", text=True), Column("IN FLIGHT", to_right=True)),
    *(Column("CALLS/S", to_right=True, dropped=4), Column("CALLS", to_right=True, dropped=2)),
    *(Column("PENDING", to_right=True, dropped=6), Column("DONE", to_right=True)),
    *(Column("ANSWERED", to_right=True, dropped=3), Column("ENDS ABOUT", dropped=1)),
)


@dataclass(frozen=True, slots=True)
class View:
    """What is drawn, as large as the screen is at that moment."""

    snapshot: Snapshot
    earlier: Snapshot | None = None
    """The look before, for rates."""
    trouble: str | None = None
    """Why what is seen is old."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Group]:
        """Draw it, in rich's manner."""
        height = console.height if console.is_alt_screen else None
        yield render(self.snapshot, self.earlier, self.trouble, options.max_width, height)


def render(
    snapshot: Snapshot, earlier: Snapshot | None, trouble: str | None, width: int, height: int | None = None
) -> Group:
    """The lines of a view. Of what does not fit into ``height`` lines it says how much there is."""
    from rich.console import Group

    parts: list[Any] = [_line(headline(snapshot), "bold")]
    if trouble is not None:
        parts.append(_line(f"NO CONNECTION: {printable(trouble)}", "bold red"))
    sections: list[Rows] = []
    if snapshot.trunks is not None:
        sections.append(_trunks(snapshot.trunks["data"]))
    if snapshot.tenants is not None:
        sections.append(_tenants(snapshot))
    if snapshot.campaigns is not None:
        sections.append(_campaigns(snapshot, earlier))
    counts = [len(section.cells) for section in sections]
    # Each has an empty line and its heads above it.
    shares = counts if height is None else fit(counts, height - len(parts) - 2 * len(sections))
    for section, share in zip(sections, shares, strict=True):
        parts += [_line(""), _table(section, share, width)]
        if share < len(section.cells):
            parts.append(_line(f"… and {len(section.cells) - share} more", "dim"))
    return Group(*parts)


def fit(counts: Sequence[int], lines: int) -> list[int]:
    """How many rows of each table are shown on so many lines; one that is cut needs a line to say so."""
    shares = list(counts)

    def taken() -> int:
        return sum(share + (share < count) for share, count in zip(shares, counts, strict=True))

    while taken() > lines and any(shares):
        longest = max(range(len(shares)), key=shares.__getitem__)
        shares[longest] -= 1
    return shares


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The columns that are shown on a screen so wide. ``widths`` are their own."""
    needed = [min(own, _SHORTEST) if each.text else own for each, own in zip(columns, widths, strict=True)]
    kept = list(range(len(columns)))
    droppable = sorted((each.dropped, index) for index, each in enumerate(columns) if each.dropped is not None)
    for _, index in droppable:
        if sum(needed[each] for each in kept) + _GAP * (len(kept) - 1) <= width:
            break
        kept.remove(index)
    return kept


def headline(snapshot: Snapshot) -> str:
    """Everything in one line."""
    parts = []
    if snapshot.trunks is not None:
        data = snapshot.trunks["data"]
        if any(each["state"] == "unknown" for each in data):
            parts.append("STANDBY: another daemon dials")
        else:
            parts.append(f"{sum(each['calls_per_second'] for each in data):.1f} calls/s")
            used, most = (sum(each[name] for each in data) for name in ("channels_in_use", "max_channels"))
            parts.append(f"{used} of {most} channels in use")
        if ill := sum(each["state"] not in ("up", "unknown") for each in data):
            parts.append(f"{ill} of {len(data)} trunks not up")
    if snapshot.campaigns is not None:
        parts.append(f"{snapshot.campaigns['pagination']['total']} active campaigns")
    return ", ".join(parts)


def _trunks(data: Any) -> Rows:
    # What wants an eye stands first: it is the last that a small screen leaves out.
    by_health = sorted(data, key=lambda each: bool(each["state"] == "up"))
    cells = [
        [
            *(each["id"], each["pbx"], each["state"], f"{known(each['channels_in_use'])}/{each['max_channels']}"),
            f"{known(each['calls_per_second'], '.1f')}/{each['max_calls_per_second']:g}",
            *(percent(each["answer_seizure_ratio"]), each["reason"]),
        ]
        for each in by_health
    ]
    ill = frozenset(index for index, each in enumerate(by_health) if each["state"] != "up")
    return Rows(TRUNKS, _printable(cells), ill)


def _tenants(snapshot: Snapshot) -> Rows:
    cells = []
    for each in snapshot.tenants["data"]:
        used = snapshot.tenant_slots.get(each["id"])
        slots = f"{known(None if used is None else used[0])}/{each['max_concurrent_calls']}"
        cells.append([each["id"], slots, f"{each['max_calls_per_second']:g}", ", ".join(each["trunks"])])
    return Rows(TENANTS, _printable(cells))


def _campaigns(snapshot: Snapshot, earlier: Snapshot | None) -> Rows:
    rates, cells = _rates(snapshot, earlier), []
    for each in sorted(snapshot.campaigns["data"], key=lambda one: (-one["stats"]["calls_in_flight"], one["name"])):
        stats, rate = each["stats"], rates.get(each["id"])
        done = sum(stats[name] for name in ("completed", "failed", "cancelled"))
        cells.append(
            [
                *(each["id"], each["name"], f"{stats['calls_in_flight']}/{each['settings']['concurrent_calls']}"),
                *(None if rate is None else f"{rate:.1f}", stats["calls_placed"], stats["pending"]),
                percent(done / stats["total"]) if stats["total"] else None,
                *(percent(stats["answer_rate"]), moment(stats["estimated_completion_at"])),
            ]
        )
    return Rows(CAMPAIGNS, _printable(cells))


def _rates(snapshot: Snapshot, earlier: Snapshot | None) -> dict[str, float]:
    """Calls per second by campaign, since the look before; those of the first look are not known."""
    if earlier is None or earlier.campaigns is None or snapshot.at <= earlier.at:
        return {}
    before = {each["id"]: each["stats"]["calls_placed"] for each in earlier.campaigns["data"]}
    seconds = snapshot.at - earlier.at
    return {
        each["id"]: (each["stats"]["calls_placed"] - before[each["id"]]) / seconds
        for each in snapshot.campaigns["data"]
        if each["id"] in before
    }


def _printable(cells: Sequence[Sequence[object]]) -> list[list[str]]:
    return [[printable(value) for value in row] for row in cells]


def _table(rows: Rows, share: int, width: int) -> Table:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    own = [
        max(cell_len(text) for text in (column.head, *(row[index] for row in rows.cells)))
        for index, column in enumerate(rows.columns)
    ]
    kept = fitting(rows.columns, own, width)
    made = Table(box=None, pad_edge=False, header_style="dim")
    for index in kept:
        column = rows.columns[index]
        # Only texts are cut.
        least = None if column.text else own[index]
        made.add_column(column.head, justify="right" if column.to_right else "left", no_wrap=True, min_width=least)
    for number, row in enumerate(rows.cells[:share]):
        # As text: what a campaign is called is no markup.
        made.add_row(*(Text(row[index]) for index in kept), style="red" if number in rows.ill else None)
    return made


def _line(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
