"""A forecast on a terminal: tables, and bars by the hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dialerd.forecast import report
from dialerd.forecast.run import Came, Question

_MOST_BARS = 48


def show(console: Console, question: Question, came: Came) -> None:
    """Print a forecast."""
    told = report.to_json(question, came)
    console.print(Group(_summary(question, came, told), _kept(came), _outcomes(told), _bars(question, came)))


def _summary(question: Question, came: Came, told: dict[str, Any]) -> RenderableType:
    zone = question.settings.zone()
    end = question.start + timedelta(seconds=came.seconds)
    moment = f"{end.astimezone(zone):%a %Y-%m-%d %H:%M} {zone.key}"
    contacts, per_hour = told["contacts"], told["calls_per_hour"]
    table = Table.grid(padding=(0, 2))
    if came.why_not is None:
        table.add_row("done", f"{moment}, after {report.span(came.seconds)}")
    else:
        left = f"{contacts['pending']:,} of {contacts['total']:,} contacts are left"
        table.add_row("not done", Text(f"{left}: {came.why_not}"))
    table.add_row(
        "contacts",
        f"{contacts['total']:,}: {contacts['completed']:,} completed, {contacts['failed']:,} failed, "
        f"{contacts['cancelled']:,} cancelled",
    )
    if came.of_part is not None:
        table.add_row("", f"foretold by {came.of_part:,} of them, with that part of every limit; --whole dials all")
    rate = told["answer_rate"]
    answered = "" if rate is None else f", {rate:.0%} of them answered"
    table.add_row("calls", f"{told['calls']:,}{answered}; calls were up for {report.span(told['busy_seconds'])}")
    table.add_row("calls per hour", f"{per_hour['average']:,.0f} on average, {per_hour['peak']:,} at most")
    for name, slots in told["slots"].items():
        table.add_row(
            f"slots of {name}",
            f"{slots['average']:,.1f} on average, {slots['peak']:,} at most, of {slots['limit']:,}",
        )
    rule = told["limited_most_by"]
    table.add_row("limited most by", "nothing" if rule is None else Text(report.words(rule)))
    return table


def _kept(came: Came) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), title="\nwhat kept (more) calls back", title_justify="left")
    for name in ("rule", "for", "share", "what it is"):
        table.add_column(name, justify="right" if name in ("for", "share") else "left")
    whole = sum(each.seconds for each in came.tally.kept.values()) or 1.0
    for rule, each in report.ranked(came.tally.kept):
        table.add_row(rule, report.span(each.seconds), f"{each.seconds / whole:.1%}", Text(report.words(rule)))
    return table


def _outcomes(told: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), title="\noutcomes of calls", title_justify="left", show_header=False)
    for outcome, count in told["outcomes"].items():
        table.add_row(
            outcome, Text(f"{count:,}", justify="right"), Text(f"{count / told['calls']:.1%}", justify="right")
        )
    return table


def _bars(question: Question, came: Came) -> RenderableType:
    bars = report.days(came.tally.hours, _MOST_BARS)
    title = f"\ncalls by the {'hour' if len(bars) == len(_busy(came)) else 'day'}, {question.settings.timezone}"
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for name in ("", "calls", "answered", "slots at most", ""):
        table.add_column(name, justify="right" if name else "left")
    most = max((hour.calls for _, hour in bars), default=0) or 1
    for name, hour in bars:
        bar = ProgressBar(total=most, completed=hour.calls, width=40, style="default", complete_style="cyan")
        table.add_row(name, f"{hour.calls:,}", f"{hour.answered:,}", f"{hour.peak:,}", bar)
    return table


def _busy(came: Came) -> list[object]:
    return [hour for hour in came.tally.hours if hour.calls or hour.call_seconds]
