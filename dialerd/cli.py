"""The command line. Each command imports what it needs when it runs, so that none waits for the others' libraries."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from dialerd import __version__
from dialerd.client import agents, campaigns, contacts, lists, results, tail, tenants, top, trunks, webhooks
from dialerd.client.commands import api_options, run_command
from dialerd.forecast import command as forecast

if TYPE_CHECKING:
    from dialerd.config import Config, Problem

_BAD_CONFIG = 2
_FAILED = 1
# Written out, not taken from the store: --help must not wait for SQLAlchemy. A test holds the two together.
ROLES = ("viewer", "operator", "admin", "system")

_config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/dialerd/dialerd.toml"),
    show_default=True,
    help="The configuration file. Variables such as DIALERD_STORE__URL override it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dialerd", message="%(prog)s %(version)s")
def main() -> None:
    """An outbound dialing daemon for Asterisk and FreeSWITCH, and its command line.

    serve, check-config, migrate, doctor, simulate and keys create work on this machine, with --config. All others are
    clients of the API, with --url and a key, or DIALER_URL and DIALER_KEY. (Not DIALERD_…: those variables override
    keys of the daemon's configuration, and one that names none is an error.)
    """


@main.command()
@_config_option
def serve(path: Path) -> None:
    """Run the daemon until it is told to stop (SIGTERM or Ctrl-C). SIGHUP lets it read its configuration again."""
    from dialerd import collector

    # Before all that is imported from here on: a fifteenth of what that takes is the collector's.
    collector.relax()
    config = _load(path)
    _configure_logs(config)

    import structlog

    from dialerd import config as configuration
    from dialerd import process

    log = structlog.get_logger(__name__)
    for key, message in configuration.warnings(config):
        log.warning("config_warning", config_key=key, message=message)
    with asyncio.Runner(loop_factory=process.loop_factory()) as runner:
        status = runner.run(process.serve(config, lambda: configuration.load(path, os.environ)))
    sys.exit(status)


@main.command("check-config")
@_config_option
def check_config(path: Path) -> None:
    """Check the configuration; tell everything that is wrong with it (exit status 2)."""
    config = _load(path)

    from dialerd import config as configuration

    for problem in configuration.warnings(config):
        click.echo(f"warning: {_shown(problem)}", err=True)
    click.echo("ok")


@main.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(path: Path, as_json: bool) -> None:
    """Examine all that the daemon stands on: configuration, machine, store and PBXs.

    Prints a line for each check, and below it the line to change. Changes nothing and dials nobody. Exit status: 0 all
    is well, 1 there are warnings, 2 there are errors. Run it as the user that the daemon runs as.
    """
    import json

    from dialerd.clock import SystemClock
    from dialerd.doctor import findings
    from dialerd.doctor.examination import examine
    from dialerd.telemetry import logs

    clock = SystemClock()
    # What a driver logs of its link is told as a finding.
    logs.configure("error", "console", clock, full_numbers=False)
    found = asyncio.run(examine(path, os.environ, clock))
    if as_json:
        click.echo(json.dumps({"findings": findings.to_json(found)}, ensure_ascii=False, indent=2))
    else:
        for line in findings.lines(found):
            click.echo(line)
    sys.exit(findings.exit_status(found))


@main.command()
@_config_option
@click.option("--to", "target", metavar="URL", help="Copy the store to this empty PostgreSQL database instead.")
@click.option("--existing", is_flag=True, help="Only a store that is there: where there is none, none is created.")
def migrate(path: Path, target: str | None, existing: bool) -> None:
    """Create the store, or bring it to this version's schema. Stop the daemon first.

    With --to, a SQLite store is copied into an empty PostgreSQL database, and each row compared. All or nothing; the
    SQLite store is left as it is. The URL is as in the configuration: postgresql://user@host/database. A password is
    better left to ~/.pgpass or PGPASSWORD: other users of this machine see what stands on a command line.
    """
    config = _load(path)
    _configure_logs(config)
    if target is not None:
        _move(config.store.url, target)
        return

    from dialerd.store.errors import StoreError
    from dialerd.store.file_lock import alone_with
    from dialerd.store.migrate import is_new
    from dialerd.store.migrate import migrate as migrate_store

    try:
        new = is_new(config.store.url)
        if new and existing:
            click.echo("there is no store yet")
            return
        if new:
            revision = migrate_store(config.store.url)
        else:
            with alone_with(config.store.url):
                revision = migrate_store(config.store.url)
    except StoreError as error:
        _fail(str(error))
    click.echo(f"the store is at schema {revision}")


def _move(source: str, target: str) -> None:
    from dialerd.config.models import StoreConfig
    from dialerd.store.errors import StoreError
    from dialerd.store.transfer import move

    try:
        StoreConfig(url=target)
    except ValueError:
        raise click.UsageError("--to takes the URL of a PostgreSQL database: postgresql://user@host/database") from None

    def tell(table: str, done: int, total: int) -> None:
        if done == total:
            click.echo(f"{table}: {total} rows", err=True)
        elif done % 100_000 == 0 and done:
            click.echo(f"{table}: {done} of {total} rows", err=True)

    try:
        rows = asyncio.run(move(source, target, tell))
    except StoreError as error:
        _fail(str(error))
    click.echo(f"moved {rows} rows, each compared; now set [store] url to the new database, and start the daemon")


@main.group()
def keys() -> None:
    """Keys of the API."""


lists.add_keys(keys)
for _group in (
    campaigns.campaigns,
    contacts.contacts,
    contacts.calls,
    agents.agents,
    lists.callbacks,
    lists.dnc,
    tenants.tenants,
    trunks.trunks,
    webhooks.webhooks,
):
    main.add_command(_group)
for _module in (results, tail, top):
    _module.add(main)


@keys.command("create")
@_config_option
@api_options(as_json=True)
@click.option("--api", "over_api", is_flag=True, help="Over the API with a key, as --url does, not into the store.")
@click.option("--tenant", help="The tenant that the key belongs to. Not for a system key.")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the key may do.")
@click.option("--name", default="command line", show_default=True, help="What the list of keys will call it.")
def create_key(
    path: Path, over_api: bool, as_json: bool, tenant: str | None, role: str, name: str, **connection: str | None
) -> None:
    """Make a key and print it, alone, on standard output. It is never shown again.

    Without --url or --api it is made in the store of the configuration file. The daemon may run meanwhile; a store that
    is not there yet is created.
    """
    if over_api or connection["url"] is not None:
        run_command(connection, as_json, functools.partial(lists.create_key, tenant=tenant, role=role, name=name))
        return
    if as_json or any(connection.values()):
        raise click.UsageError("--json, --key, --key-file and --ca-file go with --url or --api")
    config = _load(path)
    _check_tenant(config, tenant, role)
    _configure_logs(config)

    from dialerd.store.errors import StoreError

    try:
        key = asyncio.run(_create_key(config, tenant, role, name))
    except StoreError as error:
        _fail(str(error))
    click.echo(key)


async def _create_key(config: Config, tenant: str | None, role: str, name: str) -> str:
    from dialerd.clock import SystemClock
    from dialerd.store import keys as stored_keys
    from dialerd.store.db import Store
    from dialerd.store.migrate import is_new
    from dialerd.store.migrate import migrate as migrate_store
    from dialerd.telemetry.metrics import Metrics

    if is_new(config.store.url):
        migrate_store(config.store.url)
    store = Store(config.store.url, SystemClock(), Metrics())
    try:
        await store.open()
        return await stored_keys.create(store, tenant, stored_keys.Role(role), name)
    finally:
        await store.close()


def _check_tenant(config: Config, tenant: str | None, role: str) -> None:
    if role == "system":
        if tenant is not None:
            raise click.UsageError("a system key belongs to no tenant; leave --tenant out")
    elif tenant is None:
        raise click.UsageError("--tenant is missing; only a system key belongs to none")
    elif tenant not in config.tenant:
        known = ", ".join(config.tenant) or "none"
        raise click.UsageError(f"there is no tenant {tenant!r} in the configuration; there are: {known}")


def _load(path: Path) -> Config:
    """Load the configuration, or end the process with every problem on standard error."""
    from dialerd.config import ConfigError, load

    try:
        return load(path, os.environ)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(_shown(problem), err=True)
        sys.exit(_BAD_CONFIG)


forecast.add(main, _config_option, _load)


def _configure_logs(config: Config) -> None:
    """Send the logs to standard error: standard output belongs to what a command prints."""
    from dialerd.clock import SystemClock
    from dialerd.telemetry import logs

    logging = config.logging
    logs.configure(logging.level, logging.format, SystemClock(), full_numbers=logging.full_numbers)


def _shown(problem: Problem) -> str:
    return ": ".join(problem)


def _fail(message: str) -> NoReturn:
    click.echo(f"dialerd: {message}", err=True)
    sys.exit(_FAILED)
