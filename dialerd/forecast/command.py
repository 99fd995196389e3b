"""dialerd simulate: when a list will be done, and what keeps it from being done sooner."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from dialerd.config import Config
    from dialerd.core.model import Contact, Tenant
    from dialerd.core.settings import CampaignSettings
    from dialerd.forecast.assumptions import Assumptions
    from dialerd.forecast.run import Question

_USAGE = 2


def add(main: click.Group, config_option: Callable[[Any], Any], load: Callable[[Path], Config]) -> None:
    """Add the command."""

    @main.command()
    @config_option
    @click.option("--contacts", required=True, metavar="N|FILE", help="How many, or a CSV file, whose zones count.")
    @click.option("--tenant", help="Whose campaign it is. Without: the only one, or the one named default.")
    @click.option("--setting", "settings", multiple=True, metavar="NAME=VALUE", help="As for campaigns create.")
    @click.option("--start-at", metavar="TIME", help="When it is started, such as 2030-01-31T09:00:00Z. [default: now]")
    @click.option("--answer-rate", type=float, metavar="SHARE", help="Of the calls, how many are answered: 0 to 1.")
    @click.option(
        "--share", "shares", multiple=True, metavar="WHAT=SHARE", help="Of the calls, how many are: busy=0.1 …"
    )
    @click.option("--ring-seconds", metavar="SECONDS", help="Until an answer: 10-20, or 15 for 7.5 to 22.5.")
    @click.option("--talk-seconds", metavar="SECONDS", help="Of a conversation: 20-90, or 60 for 30 to 90.")
    @click.option("--agent-calls", type=click.IntRange(min=1), help="Calls that the agent takes at once.")
    @click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same callees.")
    @click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Look no further.")
    @click.option("--whole", is_flag=True, help="Dial all of a long list, and not a part of it.")
    @click.option("--json", "as_json", is_flag=True, help="Print the forecast as JSON.")
    @click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it into this SVG file, too.")
    def simulate(path: Path, as_json: bool, plot: Path | None, contacts: str, **given: Any) -> None:
        """Forecast a campaign: when it is done, calls per hour, slots in use, and what limits it most.

        The daemon's own planner dials the list on a simulated PBX, as time jumps: by the limits of the configuration
        file, with one campaign of these settings and nothing beside it. Of a long list a part is dialled, with the same
        part of each limit. Nobody is called, and no store is touched. Exit status: 0 the list gets done, 1 it does not.
        """
        config = load(path)
        try:
            done = _simulate(config, contacts, given, as_json, plot)
        except (ValueError, OSError) as error:
            _refuse(str(error))
        sys.exit(0 if done else 1)


def _simulate(config: Config, contacts: str, given: dict[str, Any], as_json: bool, plot: Path | None) -> bool:
    """Run and print a forecast; returns whether the list gets done. Raises Unfit (a ValueError), OSError."""
    from dialerd.clock import SystemClock
    from dialerd.forecast import part, report
    from dialerd.forecast import plot as picture
    from dialerd.forecast.run import Run
    from dialerd.telemetry import logs

    clock = SystemClock()
    # What the dispatcher logs of its trunks would stand between the lines of the forecast.
    logs.configure("error", "console", clock, full_numbers=False)
    question, listed = _question(config, contacts, given, clock.wall())
    count = 1 if given["whole"] else part.parts(question, len(listed))
    with _progress(len(listed), quiet=as_json) as told:
        if count == 1:
            came = Run(question, listed, told).run()
        else:
            cut, some = part.part(question, listed, count)
            came = part.whole(question, Run(cut, some, lambda through: told(through * count)).run(), len(listed))
    if plot is not None:
        title = (
            f"{len(listed):,} contacts from {question.start:%Y-%m-%d %H:%M} UTC; hours in {question.settings.timezone}"
        )
        plot.write_text(picture.svg(came.tally.hours, title), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report.to_json(question, came), indent=2))
    else:
        from rich.console import Console

        from dialerd.forecast import terminal

        terminal.show(Console(highlight=False, soft_wrap=not sys.stdout.isatty()), question, came)
    return came.why_not is None


def _question(config: Config, contacts: str, given: dict[str, Any], now: datetime) -> tuple[Question, list[Contact]]:
    """What is asked, and the list. Raises Unfit, OSError."""
    from dataclasses import replace

    from dialerd.forecast import contacts as lists
    from dialerd.forecast.assumptions import Unfit
    from dialerd.forecast.run import Question
    from dialerd.intake.rows import IntakeOptions

    tenant = _tenant(config, given["tenant"])
    settings = _settings(config, tenant, given["settings"])
    start = now if given["start_at"] is None else _moment(given["start_at"])
    if contacts.isascii() and contacts.isdigit():
        if settings.contact_timezone == "number":
            raise Unfit('contact_timezone is "number": the zones of made up numbers mean nothing, give --contacts FILE')
        listed = lists.made_up(int(contacts), start)
        tenant = replace(tenant, allowed_prefixes=())
    else:
        options = IntakeOptions(
            default_region=tenant.default_region or config.numbers.default_region,
            validate=config.numbers.validation,
            allowed_prefixes=tenant.allowed_prefixes,
        )
        listed, refused = lists.read(Path(contacts), options, start)
        if refused:
            click.echo(f"{refused:,} rows of {contacts} are no contacts, and are left out", err=True)
    question = Question(
        config,
        tenant,
        settings,
        start,
        assumptions=_assumptions(given),
        agent_calls=given["agent_calls"],
        seed=given["seed"],
        longest=timedelta(days=given["days"]),
    )
    for pbx in config.pbx.values():
        question.assumptions.settings(pbx, question.seed)  # says now what would not fit
    return question, listed


def _tenant(config: Config, name: str | None) -> Tenant:
    from dialerd.forecast.assumptions import Unfit

    tenants = {each.id: each for each in config.tenants()}
    wanted = name or (next(iter(tenants)) if len(tenants) == 1 else "default")
    if wanted not in tenants:
        known = ", ".join(tenants) or "none"
        missing = "--tenant is missing" if name is None else f"there is no tenant {name!r} in the configuration"
        raise Unfit(f"{missing}; there are: {known}")
    return tenants[wanted]


def _settings(config: Config, tenant: Tenant, given: Sequence[str]) -> CampaignSettings:
    from dialerd.api.campaign_forms import settings_from_values
    from dialerd.dispatch.checks import check_settings
    from dialerd.dispatch.errors import Rejected
    from dialerd.forecast.assumptions import Unfit

    try:
        settings = settings_from_values(_pairs("--setting", given), tenant.settings)
        check_settings(tenant, settings, {each.id: each for each in config.trunks()})
    except Rejected as rejected:
        told = [f"--setting {each.field.removeprefix('settings.')}: {each.message}" for each in rejected.errors]
        raise Unfit("\n".join(told) or rejected.detail) from None
    return settings


def _assumptions(given: dict[str, Any]) -> Assumptions:
    from dialerd.forecast.assumptions import Assumptions, Unfit, seconds
    from dialerd.pbx.callees import Behaviour

    shares: dict[Behaviour, float] = {}
    for name, value in _pairs("--share", given["shares"]).items():
        try:
            shares[Behaviour(name)] = float(value)
        except ValueError:
            known = ", ".join(each.value for each in Behaviour)
            raise Unfit(f"--share {name}={value}: a share of one of these: {known}") from None
    if given["answer_rate"] is not None:
        if Behaviour.ANSWER in shares:
            raise Unfit("--answer-rate and --share answer say the same: give one of them")
        shares[Behaviour.ANSWER] = given["answer_rate"]
    ring, talk = given["ring_seconds"], given["talk_seconds"]
    return Assumptions(
        shares,
        ring_seconds=None if ring is None else seconds(ring),
        talk_seconds=None if talk is None else seconds(talk),
    )


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    from dialerd.forecast.assumptions import Unfit

    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise Unfit(f"{option} wants NAME=VALUE, not {each!r}")
        if name in found:
            raise Unfit(f"{option} {name} is given twice")
        found[name] = value
    return found


def _moment(text: str) -> datetime:
    from dialerd.forecast.assumptions import Unfit

    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit(f"--start-at: {text!r} is no time with its zone, such as 2030-01-31T09:00:00Z") from None


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal and somebody is there to wait."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("dialing in memory", total=total)
        yield lambda through: bar.update(task, completed=through)


def _refuse(message: str) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"dialerd: {line}", err=True)
    sys.exit(_USAGE)
