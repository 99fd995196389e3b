"""The whole examination, in the order in which an administrator mends: configuration, machine, store, PBXs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from dialerd import config as configuration
from dialerd.clock import Clock
from dialerd.config import Config, ConfigError, PbxConfig, TrunkConfig
from dialerd.core.model import Agent
from dialerd.doctor import asterisk, asterisk_checks, freeswitch, host, store
from dialerd.doctor.findings import Finding, error, note, ok, warning
from dialerd.doctor.freeswitch import FreeSwitchFacts
from dialerd.doctor.store import Kept
from dialerd.links import esl_settings
from dialerd.pbx.freeswitch import FreeSwitchDriver

MOST_AGENTS = 500
"""Asked for on one PBX; those of a larger store are counted, and left out."""


async def examine(path: Path, environ: Mapping[str, str], clock: Clock) -> list[Finding]:
    """Look at everything that the configuration file names. Changes nothing, and dials nobody."""
    try:
        config = configuration.load(path, environ)
    except ConfigError as failure:
        # Nothing else means anything: what is to be looked at stands in there.
        return [error("config", f"{key}: {message}", f"{path}: {key}") for key, message in failure.problems]
    found = list(_configuration(path, config))
    synchronised, files = await asyncio.gather(host.clock_synchronised(), host.open_files())
    of_store, kept = await _store(config.store.url, clock)
    found.append(host.check_clock(synchronised))
    found += host.check_zones(_zones(config, kept))
    found.append(host.check_open_files(files, config))
    found += of_store
    found += _default_agents(config, kept)
    found += _places(config, kept)
    for part in await asyncio.gather(*(_pbx(name, pbx, config, kept, clock) for name, pbx in config.pbx.items())):
        found += part
    return found


async def _store(url: str, clock: Clock) -> tuple[list[Finding], Kept]:
    if url.startswith("postgresql:"):
        # Imported only here: the driver is of no use to a SQLite file.
        from dialerd.doctor import postgres

        found, kept = await postgres.examine(url, clock)
        return list(postgres.check(found)), kept
    facts, kept = await store.examine(url)
    return list(store.check(facts)), kept


def _configuration(path: Path, config: Config) -> Iterator[Finding]:
    warnings = configuration.warnings(config)
    for key, message in warnings:
        yield warning("config", f"{key} {message}", f"{path}: {key}")
    if not warnings:
        yield ok("config", f"{path} is well formed")
    with_secrets = any(pbx.secret is not None and pbx.secret_file is None for pbx in config.pbx.values())
    if with_secrets and (file := host.file_mode(path)) is not None:
        yield host.check_private("config.permissions", file, "a PBX's secret")
    for name, pbx in config.pbx.items():
        if pbx.secret_file is not None and (file := host.file_mode(path.parent / pbx.secret_file)) is not None:
            yield host.check_private(f"pbx.{name}.secret_file", file, "a PBX's secret")
    if config.server.tls_certificate is not None:
        yield _certificate(config.server.tls_certificate, config.server.tls_key)


def _certificate(certificate: Path, key: Path | None) -> Finding:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as failure:
        return error(
            "server.tls",
            f"the certificate cannot be used: {failure}",
            "dialerd.toml [server] tls_certificate and tls_key, which must be a pair",
        )
    return ok("server.tls", f"{certificate} and its key are a pair")


def _zones(config: Config, kept: Kept) -> Iterator[str]:
    for tenant in config.tenant.values():
        yield tenant.settings.timezone
    for stored in kept.tenants:
        if isinstance(zone := stored.settings.get("timezone"), str):
            yield zone
    for campaign in kept.campaigns:
        yield campaign.settings.timezone


def _default_agents(config: Config, kept: Kept) -> Iterator[Finding]:
    """A tenant's default agent is named in the file, and made over the API."""
    named = [(tenant, value.default_agent) for tenant, value in config.tenant.items()]
    named += [(tenant.id, tenant.default_agent) for tenant in kept.tenants if tenant.id not in config.tenant]
    known = {(agent.tenant, agent.name) for agent in kept.agents}
    for tenant, name in named:
        if name is None:
            continue
        if (tenant, name) in known:
            yield ok(f"tenant.{tenant}.default_agent", f"agent {name!r} is there")
        else:
            yield warning(
                f"tenant.{tenant}.default_agent",
                f"there is no agent {name!r}: campaigns that name none are refused",
                f"dialerd.toml [tenant.{tenant}] default_agent, or run: dialerd agents create {name!r} …",
            )


def _places(config: Config, kept: Kept) -> Iterator[Finding]:
    """Agents that were allowed once, or come from before anybody asked."""
    allowed = config.places()
    for agent in kept.agents:
        if (objection := allowed.objection(agent)) is not None:
            field, message = objection
            whose = f"agent {agent.name!r} of tenant {agent.tenant}"
            yield error(
                "agents.allowed",
                f"{whose}: its {field} {getattr(agent, field)!r} {message}; its campaigns do not dial",
                f"dialerd.toml [agents] {field}s, or change the agent",
            )


async def _pbx(name: str, pbx: PbxConfig, config: Config, kept: Kept, clock: Clock) -> list[Finding]:
    trunks = {key: trunk for key, trunk in config.trunk.items() if trunk.pbx == name}
    if pbx.driver == "simulated":
        return [note(f"pbx.{name}.link", "is simulated: nobody is called")]
    agents = _agents_of(trunks, config, kept)
    asked = agents[:MOST_AGENTS]
    if pbx.driver == "asterisk":
        facts = await asterisk.examine(pbx, trunks, asked, clock)
        found = list(asterisk_checks.check(name, pbx, trunks, asked, facts))
    else:
        found = list(freeswitch.check(name, pbx, trunks, asked, await _freeswitch(name, pbx, trunks, asked, clock)))
    if len(agents) > MOST_AGENTS:
        found.append(note(f"pbx.{name}.agent", f"{len(agents) - MOST_AGENTS} more agents were not looked at"))
    return found


async def _freeswitch(
    name: str, pbx: PbxConfig, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], clock: Clock
) -> FreeSwitchFacts:
    settings = esl_settings(pbx)
    driver = FreeSwitchDriver(name, settings, clock, {key: trunk.dial for key, trunk in trunks.items()})
    facts = await freeswitch.examine(driver, trunks)
    if facts.up is None or not agents:
        return facts
    return replace(facts, places=await freeswitch.ask_places(settings, agents, clock))


def _agents_of(trunks: Mapping[str, TrunkConfig], config: Config, kept: Kept) -> tuple[Agent, ...]:
    """The agents of the tenants that call through these trunks: their places must be known there."""
    tenants = {name for name, tenant in config.tenant.items() if trunks.keys() & set(tenant.trunks)}
    tenants |= {tenant.id for tenant in kept.tenants if trunks.keys() & set(tenant.trunks)}
    return tuple(agent for agent in kept.agents if agent.tenant in tenants)
