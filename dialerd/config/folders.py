"""Where the daemon keeps files beside its store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dialerd.config.models import Config

_SQLITE = "sqlite:///"


def upload_folder(config: Config, environ: Mapping[str, str]) -> Path:
    """Where uploads are kept while they are read: on the store's own disk, where that is known."""
    if config.server.upload_folder is not None:
        return config.server.upload_folder
    if config.store.url.startswith(_SQLITE):
        return Path(config.store.url.removeprefix(_SQLITE).partition("?")[0] + "-uploads")
    # systemd names the folders of the unit's StateDirectory, separated by colons.
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state, "uploads")
    return Path(tempfile.gettempdir(), f"dialerd-uploads-{os.geteuid()}")
