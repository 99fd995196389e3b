"""The configuration: a TOML file and environment variables, checked as a whole, as frozen settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dialerd.config import checks, environment, problems
from dialerd.config.checks import ReadFile, warnings
from dialerd.config.models import (
    AgentsConfig,
    Config,
    DispatchConfig,
    LoggingConfig,
    NumbersConfig,
    PbxConfig,
    RetentionConfig,
    ServerConfig,
    StoreConfig,
    TenantConfig,
    TrunkConfig,
    WebhooksConfig,
)
from dialerd.config.problems import ConfigError, Problem

__all__ = [
    "AgentsConfig",
    "Config",
    "ConfigError",
    "DispatchConfig",
    "LoggingConfig",
    "NumbersConfig",
    "PbxConfig",
    "Problem",
    "RetentionConfig",
    "ServerConfig",
    "StoreConfig",
    "TenantConfig",
    "TrunkConfig",
    "WebhooksConfig",
    "load",
    "parse",
    "warnings",
]


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read the file, and the variables named ``DIALERD_…`` over it. Raises ConfigError with all that is wrong."""
    try:
        text = _read(path)
    except OSError as error:
        raise ConfigError([(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([(str(path), "is not UTF-8 text")]) from None
    return parse(text, environ, path, _read)


def parse(text: str, environ: Mapping[str, str], path: Path, read: ReadFile) -> Config:
    """Make the configuration of a file's text. ``path`` is the file's, ``read`` reads the secret files that it names.

    Raises ConfigError with everything that is wrong.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only the first syntax error can be known, and nothing behind it means anything.
        raise ConfigError([(str(path), f"is not TOML: {error}")]) from None
    layer = environment.overlay(data, environ, Config)
    checks.prefer_environment(data, layer.origin)
    found = list(layer.problems)
    found += checks.cross_check(data)
    found += checks.read_secrets(data, path.parent, read)
    found += checks.find_tls(data, path.parent, read)
    checks.find_folders(data, path.parent)
    try:
        config = Config(**data)
    except ValidationError as error:
        found += problems.of_models(error, Config, layer.origin)
        config = None
    if config is None or found:
        raise ConfigError(found)
    return config


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
