"""Checks of one table against another. They read the raw tables, so that an error elsewhere in the file hides none."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dialerd.config.keys import KeyPath, did_you_mean, show
from dialerd.config.models import Config
from dialerd.config.problems import Problem
from dialerd.core import phone
from dialerd.core.places import context_of
from dialerd.pbx import wire
from dialerd.pbx.esl_gateways import gateway_of

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NUMBER = "+120255501000000"
"""As many digits as E.164 allows, whose national part is as long as one can be."""
_DIALS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "asterisk": (wire.ami_dial, "+ @ . _ : ; = / * # -"),
    "freeswitch": (wire.esl_dial, "+ @ . _ : ; = / * # % ~ -"),
}
"""How each driver writes a dial string, and what may stand in one beside letters and digits."""
_Table = Mapping[str, Any]
ReadFile = Callable[[Path], str]
"""Reads a whole file as text; raises OSError or UnicodeDecodeError."""


def cross_check(data: _Table) -> Iterator[Problem]:
    """Find references to nothing, and keys that need or exclude each other."""
    for name, pbx in _tables(data, "pbx"):
        yield from _check_login(name, pbx)
    pbxs = dict(_tables(data, "pbx"))
    for name, trunk in _tables(data, "trunk"):
        if isinstance(pbx_name := trunk.get("pbx"), str) and pbx_name not in pbxs:
            yield show(("trunk", name, "pbx")), f"names no [pbx.…]: {pbx_name!r}{did_you_mean(pbx_name, pbxs)}"
        yield from _check_reserved(name, trunk)
        yield from _check_dial(name, trunk, pbxs)
    trunks = dict(_tables(data, "trunk"))
    for name, tenant in _tables(data, "tenant"):
        yield from _check_tenant(name, tenant, trunks)


def _check_reserved(name: str, trunk: _Table) -> Iterator[Problem]:
    reserved, most = trunk.get("reserved_channels"), trunk.get("max_channels")
    if isinstance(reserved, int) and isinstance(most, int) and 0 < most <= reserved:
        yield show(("trunk", name, "reserved_channels")), f"leaves none of max_channels ({most}) to call with"


def _check_dial(name: str, trunk: _Table, pbxs: Mapping[str, _Table]) -> Iterator[Problem]:
    """See that calls can be sent with a trunk's dial string, and that its gateway can be asked for."""
    template, pbx = trunk.get("dial"), trunk.get("pbx")
    driver = pbxs.get(pbx, {}).get("driver") if isinstance(pbx, str) else None
    if not isinstance(template, str) or not isinstance(driver, str) or driver not in _DIALS:
        return
    write, signs = _DIALS[driver]
    path = show(("trunk", name, "dial"))
    try:
        dial = phone.format_dial(template, _LONGEST_NUMBER)
    except ValueError:
        return  # the model says what is wrong with it
    try:
        write(dial)
    except wire.WireError as error:
        form = f"for {driver} it is one destination, TECHNOLOGY/…, of letters, digits and {signs}"
        yield path, f"no call can be sent with it: {error.rule}; {form}"
        return
    gateway = gateway_of(template) if driver == "freeswitch" else None
    try:
        if gateway is not None:
            wire.esl_gateway(gateway)
    except wire.WireError as error:
        yield path, f"FreeSWITCH cannot be asked for its gateway {gateway!r}, whose name {error.rule}; rename it there"


def _check_login(name: str, pbx: _Table) -> Iterator[Problem]:
    driver = pbx.get("driver")
    if driver in ("asterisk", "freeswitch") and not {"secret", "secret_file"} & pbx.keys():
        yield show(("pbx", name, "secret")), "is missing; give it, or secret_file"
    if driver == "asterisk" and "username" not in pbx:
        yield show(("pbx", name, "username")), "is missing"
    if driver == "freeswitch" and "username" in pbx:
        yield show(("pbx", name, "username")), "is for asterisk only: FreeSWITCH's event socket has no users"
    if "secret" in pbx and "secret_file" in pbx:
        yield show(("pbx", name, "secret_file")), "is given beside secret; give one of them"
    if isinstance(secret := pbx.get("secret"), str) and (not secret or _CONTROL.search(secret)):
        yield show(("pbx", name, "secret")), "must be one line, and not empty"
    if driver in ("asterisk", "freeswitch") and "simulated" in pbx:
        yield show(("pbx", name, "simulated")), 'is for driver = "simulated" only'


def _check_tenant(name: str, tenant: _Table, trunks: Mapping[str, _Table]) -> Iterator[Problem]:
    own = _texts(tenant.get("trunks"))
    for index, trunk in own:
        path = show(("tenant", name, "trunks", index))
        if trunk not in trunks:
            yield path, f"names no [trunk.…]: {trunk!r}{did_you_mean(trunk, list(trunks))}"
        elif trunk in [earlier for _, earlier in own[:index]]:
            yield path, f"is there twice: {trunk!r}"
    of_trunks = [number for _, each in own if each in trunks for number in _texts(trunks[each].get("caller_ids"))]
    owned = {number for _, number in _texts(tenant.get("caller_ids")) or of_trunks}
    settings = tenant.get("settings")
    if not isinstance(settings, dict):
        return
    for index, trunk in _texts(settings.get("trunks")):
        if trunk not in [known for _, known in own]:
            yield show(("tenant", name, "settings", "trunks", index)), f"is no trunk of this tenant: {trunk!r}"
    for index, caller_id in _texts(settings.get("caller_ids")):
        path = show(("tenant", name, "settings", "caller_ids", index))
        try:
            phone.digits(caller_id)
        except ValueError as error:
            yield path, str(error)
        else:
            if caller_id not in owned:
                yield path, f"is no caller ID of this tenant: {caller_id!r}"


def prefer_environment(data: dict[str, Any], origin: Mapping[KeyPath, str]) -> None:
    """Let a ``secret`` or ``secret_file`` of the environment replace the other one of the file."""
    for name, _ in _tables(data, "pbx"):
        ours = [key for key in ("secret", "secret_file") if ("pbx", name, key) in origin]
        if len(ours) == 1:
            data["pbx"][name].pop("secret_file" if ours == ["secret"] else "secret", None)


def read_secrets(data: dict[str, Any], base: Path, read: ReadFile) -> Iterator[Problem]:
    """Put each ``secret_file``'s only line in its ``secret``. A relative path starts at the configuration's folder."""
    for name, pbx in _tables(data, "pbx"):
        file = pbx.get("secret_file")
        if not isinstance(file, str) or "secret" in pbx:
            continue
        path = show(("pbx", name, "secret_file"))
        try:
            secret = read(base / file).rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            yield path, f"cannot be read: {reason}"
            continue
        if not secret or _CONTROL.search(secret):
            yield path, "must hold one line, and not an empty one"
        data["pbx"][name]["secret"] = secret


def find_tls(data: _Table, base: Path, read: ReadFile) -> Iterator[Problem]:
    """See that the files of TLS are there, both or neither. A relative path starts at the configuration's folder."""
    server = data.get("server")
    if not isinstance(server, dict):
        return
    keys = ("tls_certificate", "tls_key")
    for key, other in (keys, keys[::-1]):
        file = server.get(key)
        if file is None and other in server:
            yield show(("server", key)), f"is missing beside {other}"
        if not isinstance(file, str):
            continue
        server[key] = str(base / file)
        try:
            read(base / file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not PEM text"
            yield show(("server", key)), f"cannot be read: {reason}"


def find_folders(data: _Table, base: Path) -> None:
    """Let the path of a folder that is not absolute start at the configuration's folder."""
    server = data.get("server")
    if isinstance(server, dict) and isinstance(folder := server.get("upload_folder"), str):
        server["upload_folder"] = str(base / folder)


def warnings(config: Config) -> list[Problem]:
    """Tell what is allowed and yet most likely not meant."""
    found: list[Problem] = []
    for name, trunk in config.trunk.items():
        pbx = config.pbx[trunk.pbx]
        for limit in ("max_calls_per_second", "max_channels"):
            if getattr(trunk, limit) > getattr(pbx, limit):
                found.append((show(("trunk", name, limit)), f"is above that of pbx.{trunk.pbx}, which binds"))
        if not any(name in tenant.trunks for tenant in config.tenant.values()):
            found.append((show(("trunk", name)), "belongs to no tenant: nothing is dialled through it"))
    for name in config.pbx.keys() - {trunk.pbx for trunk in config.trunk.values()}:
        found.append((show(("pbx", name)), "has no trunk: nothing is dialled through it"))
    through = {context.lower(): name for name, trunk in config.trunk.items() if (context := context_of(trunk.dial))}
    for index, context in enumerate(config.agents.contexts or ()):
        if context.lower() in through:
            path = show(("agents", "contexts", index))
            found.append((path, f"trunk {through[context.lower()]} dials through it: agents in it may call any number"))
    if config.server.tls_certificate is None and not _is_loopback(config.server.host):
        found.append(("server.listen", "lets keys and contacts cross the network in the clear; see tls_certificate"))
    if not config.tenant:
        found.append(("tenant", "there is none: nobody can have a key"))
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tables(data: _Table, section: str) -> list[tuple[str, _Table]]:
    tables = data.get(section)
    return [(k, v) for k, v in tables.items() if isinstance(v, dict)] if isinstance(tables, dict) else []


def _texts(value: Any) -> list[tuple[int, str]]:
    return [(i, v) for i, v in enumerate(value) if isinstance(v, str)] if isinstance(value, list) else []
