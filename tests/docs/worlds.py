"""What a page of docs/ is run in: where its paths and ports lie in this run, and what is up before its first command.

============== ====================================================================================================
``simulated``  a daemon whose PBX is the simulated one; $KEY is an administrator's, $SYSTEM_KEY a system key
``lab``        the lab's Asterisk, as `make lab` has it, and its sounds' folder; no daemon
``asterisk``   an Asterisk that nothing of dialerd's was put on yet, and a carrier that takes calls
``freeswitch`` the stand-in of a FreeSWITCH that nothing of dialerd's was put on yet
============== ====================================================================================================
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from dialerd.clock import SystemClock
from tests.docs.page import ROOT
from tests.fakes.esl_peer import esl_peer, reply
from tests.integration.daemon import Daemon, Stock, make_key
from tests.lab.lab import Lab

HOST = "127.0.0.1"
TENANT = "default"
CARRIER = "sip.your-carrier.example"

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
[store]
url = "sqlite:///{store}"
[numbers]
default_region = "US"
[agents]
applications = ["Playback"]
[pbx.main]
driver = "simulated"
max_calls_per_second = 50
max_channels = 100
[pbx.main.simulated]
by_number = true
shares = {{ answer = 1.0 }}
post_dial_seconds = [0.01, 0.02]
ring_seconds = [0.01, 0.02]
talk_seconds = [0.1, 0.2]
trip_seconds = [0.0, 0.002]
seed = 1
[trunk.carrier-a]
pbx = "main"
dial = "PJSIP/{{number}}@carrier-a"
max_calls_per_second = 20
max_channels = 40
caller_ids = ["+12025550199"]
[trunk.carrier-b]
pbx = "main"
dial = "PJSIP/{{number}}@nocontact"
max_calls_per_second = 20
max_channels = 40
suspend_after = 3
[tenant.default]
max_calls_per_second = 20
max_concurrent_calls = 40
trunks = ["carrier-a", "carrier-b"]
[tenant.default.settings]
calling_hours_start = "00:00"
calling_hours_end = "00:00"
"""

BARE = {
    "extensions.conf": "[general]\nstatic = yes\n",
    "manager.conf": '[general]\nenabled = yes\nport = {ami}\nbindaddr = 127.0.0.1\n#include "manager.d/*.conf"\n'
    "[dialer]\nsecret = dialersecret\nread = all\nwrite = all\n",
    "manager.d/README.conf": "; Debian's, without which the include above would find nothing and fail.\n",
    "pjsip.conf": "[global]\ntype = global\n[loopback]\ntype = transport\nprotocol = udp\nbind = 127.0.0.1:{sip}\n",
}
"""An Asterisk of somebody who has not heard of dialerd."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A new store with an administrator's key and a system key, to be copied: making it anew takes a page seconds."""

    stock: Stock
    system: str

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """Make it as an administrator does."""
        store, config = folder / "dialerd.db", folder / "dialerd.toml"
        config.write_text(CONFIG.format(store=store, port=0))

        admin = make_key(config, "--tenant", TENANT, "--role", "admin")
        return cls(Stock(store, admin), make_key(config, "--role", "system"))


@dataclass
class World:
    """Where a page is run."""

    folder: Path
    """The shell's own folder."""
    environ: dict[str, str]
    places: dict[str, str] = field(default_factory=dict)
    """What the page says → what it is in this run: paths, addresses, keys. The longest goes first."""

    def ours(self, text: str) -> str:
        """A command or a file of the page, as it is in this run."""
        text = re.sub(r"\bsudo (?:-u \w+ )?", "", text)
        return _replace(text, self.places)

    def theirs(self, text: str) -> str:
        """Something printed, as the page would show it."""
        return _replace(text, {ours: theirs for theirs, ours in self.places.items() if ours != HOST})


def _replace(text: str, places: Mapping[str, str]) -> str:
    if not places:
        return text
    wanted = "|".join(re.escape(each) for each in sorted(places, key=len, reverse=True))
    return re.sub(wanted, lambda found: places[found[0]], text)


@asynccontextmanager
async def simulated(folder: Path, keys: Keys) -> AsyncIterator[World]:
    """A daemon that dials people who answer at once, or do as the last two digits of their number say."""
    home = folder / "etc"
    home.mkdir()
    daemon = Daemon(home, keys.stock, lambda store, port: CONFIG.format(store=store, port=port))
    await daemon.start()
    try:
        world = _world(folder)
        base = f"http://{HOST}:{daemon.port}"
        world.places |= {
            "127.0.0.1:8088": f"{HOST}:{daemon.port}",
            "127.0.0.1:8089": f"{HOST}:{_free_port()}",
            "/etc/dialerd": str(home),
            "/var/lib/dialerd": str(home),
        }
        world.environ |= {
            "DIALER_URL": base,
            "DIALER_KEY": keys.stock.key,
            "KEY": keys.stock.key,
            "SYSTEM_KEY": keys.system,
        }
        yield world
        assert not daemon.faults(), daemon.faults()
    except BaseException:
        print(daemon.show())
        raise
    finally:
        await daemon.stop()


@asynccontextmanager
async def lab(folder: Path, running: Lab) -> AsyncIterator[World]:
    """The lab's Asterisk, with the modules that recipes ask for."""
    etc = running.run / "etc"
    kept = _kept(etc)
    (etc / "amd.conf").write_text("[general]\n")  # Asterisk's own defaults; without the file there is no AMD()
    for module in ("app_amd", "res_audiosocket", "app_audiosocket"):
        said = running.cli(f"module load {module}.so")
        assert "Unable" not in said or "already loaded" in said, said
    # The page before left by a reload, after which Asterisk asks its trunks anew, at a moment of its own.
    running.await_reachable(("carrier-a",))
    try:
        yield _on_asterisk(folder, running)
    finally:
        _put_back(etc, kept)
        running.cli("core reload")


@asynccontextmanager
async def asterisk(folder: Path, running: Lab) -> AsyncIterator[World]:
    """An Asterisk with a configuration of its own, which knows nothing of dialerd."""
    etc = running.run / "etc"
    kept = _kept(etc)
    ports = running.ports.as_dict()
    try:
        (etc / "manager.d").mkdir(exist_ok=True)
        for name, text in BARE.items():
            (etc / name).write_text(text.format(**ports))
        (etc / "pjsip_dialerd.conf").unlink()
        running.restart_asterisk(endpoints=())
        yield _on_asterisk(folder, running)
    finally:
        _put_back(etc, kept)
        running.restart_asterisk()


@asynccontextmanager
async def freeswitch(folder: Path) -> AsyncIterator[World]:
    """A FreeSWITCH played from recordings; its password and gateways are those of the files that a page puts."""
    world, home = _world(folder), folder / "etc-freeswitch"
    etc, state = folder / "etc-dialerd", folder / "var-dialerd"
    for each in (home, etc, state):
        each.mkdir()
    port = _free_port()

    def let_in(line: str) -> bytes:
        settings = ElementTree.parse(home / "autoload_configs/event_socket.conf.xml").getroot().iter("param")
        (password,) = (each.attrib["value"] for each in settings if each.get("name") == "password")
        gateways = (each for file in home.glob("sip_profiles/external/*.xml") for each in _elements(file, "gateway"))
        peer.gateways = {each.attrib["name"]: "UP" for each in gateways}
        return reply("+OK accepted" if line == f"auth {password}" else "-ERR invalid")

    async with esl_peer(SystemClock()) as peer:
        peer.answers["auth"] = let_in
        me = getpass.getuser()
        world.places |= {
            "/etc/freeswitch": str(home),
            "/etc/dialerd": str(etc),
            "/var/lib/dialerd": str(state),
            "chown freeswitch:": f"chown {me}:",
            "chown dialerd:": f"chown {me}:",
            "port = 8021": f"port = {peer.port}",
            "127.0.0.1:8021": f"{HOST}:{peer.port}",
            "127.0.0.1:8088": f"{HOST}:{port}",
        }
        world.environ |= {"DIALER_URL": f"http://{HOST}:{port}"}
        yield world


def _elements(file: Path, tag: str) -> Iterator[ElementTree.Element]:
    return ElementTree.parse(file).getroot().iter(tag)


def _on_asterisk(folder: Path, running: Lab) -> World:
    world = _world(folder)
    etc, state = folder / "etc-dialerd", folder / "var-dialerd"
    for each in (etc, state):
        each.mkdir()
    port = _free_port()
    world.places |= {
        "/etc/asterisk": str(running.run / "etc"),
        "/var/lib/asterisk": str(running.run / "lib"),
        "asterisk -rx": f"{running.run}/asterisk -rx",
        "/etc/dialerd": str(etc),
        "/var/lib/dialerd": str(state),
        "127.0.0.1:8088": f"{HOST}:{port}",
        "port = 5038": f"port = {running.ports.ami}",
        "127.0.0.1:9092": f"{HOST}:{_free_port()}",
        "PJSIP/200": "PJSIP/10000@agents,0,One,PJSIP/agents",
        "127.0.0.1:5038": f"{HOST}:{running.ports.ami}",
        f"{CARRIER}:5060": f"{HOST}:{running.ports.trunk}",
        CARRIER: HOST,
    }
    world.environ |= {"DIALER_URL": f"http://{HOST}:{port}"}
    return world


def _world(folder: Path) -> World:
    home = folder / "home"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DIALERD_", "DIALER_"))}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', '')}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "COLUMNS": "160",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "NO_COLOR": "1",
    }
    # The checkout as its reader has it: a page names its files from there.
    for name in ("asterisk-conf", "config", "docs", "freeswitch-conf", "systemd"):
        (home / name).symlink_to(ROOT / name)
    return World(home, environ)


def _kept(etc: Path) -> dict[str, bytes]:
    return {str(each.relative_to(etc)): each.read_bytes() for each in etc.rglob("*") if each.is_file()}


def _put_back(etc: Path, kept: Mapping[str, bytes]) -> None:
    for each in etc.rglob("*"):
        if each.is_file() and str(each.relative_to(etc)) not in kept:
            each.unlink()
    for name, body in kept.items():
        (etc / name).write_bytes(body)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind((HOST, 0))
        port: int = chosen.getsockname()[1]
        return port
