"""The least configuration that can dial: a simulated PBX, a trunk and a tenant, its store in a test's own folder."""

from __future__ import annotations

from pathlib import Path

SMALL = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/dialerd.db"
[pbx.sim]
driver = "simulated"
max_calls_per_second = 5
max_channels = 5
[trunk.one]
pbx = "sim"
dial = "PJSIP/{{number}}@one"
max_calls_per_second = 5
max_channels = 5
[tenant.default]
max_calls_per_second = 5
max_concurrent_calls = 5
trunks = ["one"]
"""


def write(folder: Path, server: str = "") -> Path:
    """Write it into a folder, with these lines more in ``[server]``; returns the file."""
    path = folder / "dialerd.toml"
    path.write_text(SMALL.format(folder=folder).replace("[server]\n", f"[server]\n{server}\n"))
    return path
