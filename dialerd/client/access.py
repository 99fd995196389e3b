"""Where the daemon is and with which key to ask it: from the command line, the environment, or a file.

The variables begin with ``DIALER_``, not with ``DIALERD_``: those override keys of the daemon's configuration, and
``dialerd serve`` refuses one that names none.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8088"
VARIABLES = {"url": "DIALER_URL", "key": "DIALER_KEY", "key_file": "DIALER_KEY_FILE", "ca_file": "DIALER_CA_FILE"}
_KEY = re.compile(r"[\x21-\x7e]+")


class AccessError(Exception):
    """The client's configuration makes no sense; the message says where."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the daemon is, and the key that opens it."""

    url: str
    key: str = field(repr=False)
    ca_file: Path | None = None
    """PEM file of the authority behind the daemon's certificate; None: those that the system trusts."""
    warnings: tuple[str, ...] = ()


def client_file(environ: Mapping[str, str]) -> Path:
    """Where the client's own configuration is."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(base) / "dialerd" / "client.toml"


def find(given: Mapping[str, str | None], environ: Mapping[str, str]) -> Access:
    """Put it together: the command line goes before the environment, and that before the file. Raises AccessError."""
    path = client_file(environ)
    layers: list[dict[str, str]] = [
        {name: value for name, value in given.items() if value},
        {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)},
        _read(path),
    ]
    warnings = []
    if {"key"} & layers[2].keys() and _is_open(path):
        warnings.append(f"{path} holds a key, and others may read it; run: chmod 600 {path}")
    url = next((layer["url"] for layer in layers if "url" in layer), DEFAULT_URL).rstrip("/")
    parts = _parts(url)
    if parts[0] == "http" and not _is_loopback(parts[1]):
        warnings.append(f"{url} is not https: the key crosses the network in the clear")
    ca_file = next((layer["ca_file"] for layer in layers if "ca_file" in layer), None)
    return Access(url, _key(layers), None if ca_file is None else Path(ca_file).expanduser(), tuple(warnings))


def _key(layers: list[dict[str, str]]) -> str:
    for layer in layers:
        if "key" in layer and "key_file" in layer:
            raise AccessError("key and key_file are both given; give one of them")
        if "key_file" in layer:
            try:
                key = Path(layer["key_file"]).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise AccessError(f"{layer['key_file']} cannot be read: {error}") from None
        elif "key" in layer:
            key = layer["key"].strip()
        else:
            continue
        if not _KEY.fullmatch(key):
            raise AccessError("the key must be one word, as dialerd keys create printed it")
        return key
    raise AccessError(f"there is no key: give {VARIABLES['key']}, --key-file or --key; dialerd keys create makes one")


def _read(path: Path) -> dict[str, str]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AccessError(f"{path}: {error}") from None
    for name, value in data.items():
        if name not in VARIABLES:
            raise AccessError(f"{path}: {name} is not a key of this file; there are {', '.join(VARIABLES)}")
        if not isinstance(value, str):
            raise AccessError(f"{path}: {name} must be a text in quotes")
    # A relative path starts at the file's folder.
    for name in {"key_file", "ca_file"} & data.keys():
        data[name] = str(path.parent / Path(data[name]).expanduser())
    return data


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises for what is no port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise AccessError(f"{url!r} is no address of a daemon, such as {DEFAULT_URL}")
    return parts.scheme, host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_open(path: Path) -> bool:
    try:
        return bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False
