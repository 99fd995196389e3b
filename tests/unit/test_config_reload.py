"""What a running daemon takes up of a changed configuration file, and what it leaves to its next start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from dialerd.config import Config, parse
from dialerd.config.models import PbxConfig
from dialerd.config.reload import AT_ONCE, PBX_LIMITS, PBX_LINK, Changes, changes

FILE = """
[server]
listen = "127.0.0.1:8088"
[store]
url = "sqlite:////var/lib/dialerd/dialerd.db"
[dispatch]
drain_seconds = 30
[pbx.main]
driver = "asterisk"
host = "10.0.0.1"
username = "dialerd"
secret = "old-secret"
max_calls_per_second = 20
max_channels = 200
[trunk.a]
pbx = "main"
dial = "PJSIP/{number}@a"
max_calls_per_second = 10
max_channels = 100
[tenant.one]
max_calls_per_second = 10
max_concurrent_calls = 100
trunks = ["a"]
"""
MORE = """
[pbx.second]
driver = "freeswitch"
secret = "x"
max_calls_per_second = 5
max_channels = 50
[trunk.b]
pbx = "second"
dial = "sofia/gateway/b/{number}"
max_calls_per_second = 5
max_channels = 50
"""


def read(text: str) -> Config:
    return parse(text, {}, Path("dialerd.toml"), Path.read_text)


def compared(before: str, after: str) -> Changes:
    running = read(before)
    return changes(running, read(after), running.pbx)


def test_nothing_new_changes_nothing() -> None:
    change = compared(FILE, FILE)
    assert (change.applied, change.waiting) == ((), ())
    assert change.config == read(FILE)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("drain_seconds = 30", "drain_seconds = 5", "dispatch.drain_seconds"),
        ("max_channels = 100", "max_channels = 3", "trunk.a.max_channels"),
        ("PJSIP/{number}@a", "PJSIP/{number}@other", "trunk.a.dial"),
        ("max_concurrent_calls = 100", "max_concurrent_calls = 7", "tenant.one.max_concurrent_calls"),
        ("max_channels = 200", "max_channels = 20", "pbx.main.max_channels"),
        ("old-secret", "new-secret", "pbx.main.secret"),
        ("[dispatch]", '[numbers]\nvalidate = "valid"\n[dispatch]', "numbers.validate"),
        ("[dispatch]", '[agents]\napplications = ["Playback"]\n[dispatch]', "agents.applications"),
        ("[dispatch]", '[agents]\ncontexts = ["sales"]\n[dispatch]', "agents.contexts"),
        ("[dispatch]", '[logging]\nlevel = "debug"\n[dispatch]', "logging.level"),
    ],
)
def test_what_binds_at_once(old: str, new: str, key: str) -> None:
    change = compared(FILE, FILE.replace(old, new))
    assert (change.applied, change.waiting) == ((key,), ())
    assert change.config == read(FILE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("127.0.0.1:8088", "127.0.0.1:9099", "server.listen"),
        ("dialerd.db", "other.db", "store.url"),
        ("drain_seconds = 30", "drain_seconds = 30\ncps_guard_ms = 100", "dispatch.cps_guard_ms"),
        ("10.0.0.1", "10.0.0.2", "pbx.main.host"),
    ],
)
def test_what_waits_for_a_restart_keeps_its_value_and_is_named(old: str, new: str, key: str) -> None:
    change = compared(FILE, FILE.replace(old, new))
    assert (change.applied, change.waiting) == ((), (key,))
    assert change.config == read(FILE)
    # What was put off is told again by the next reload, and no longer once it is as before.
    again = changes(change.config, read(FILE.replace(old, new)), change.config.pbx)
    assert again.waiting == (key,)
    assert changes(change.config, read(FILE), change.config.pbx).waiting == ()


def test_the_secret_of_another_machine_is_not_shown_to_this_one() -> None:
    after = FILE.replace("10.0.0.1", "10.0.0.2").replace("old-secret", "new-secret").replace("= 200", "= 20")
    change = compared(FILE, after)
    assert change.waiting == ("pbx.main.host", "pbx.main.secret")
    assert change.applied == ("pbx.main.max_channels",)
    pbx = change.config.pbx["main"]
    assert pbx.secret is not None
    assert (pbx.host, pbx.secret.get_secret_value(), pbx.max_channels) == ("10.0.0.1", "old-secret", 20)


def test_tables_come_and_go() -> None:
    came = compared(FILE, FILE + MORE)
    assert came.applied == ("pbx.second", "trunk.b")
    assert came.config == read(FILE + MORE)
    went = compared(FILE + MORE, FILE)
    assert went.applied == ("pbx.second (gone)", "trunk.b (gone)")
    assert went.config == read(FILE)


def test_a_pbx_that_comes_back_before_it_is_let_go_of_keeps_its_machine() -> None:
    links = read(FILE + MORE).pbx
    without = changes(read(FILE + MORE), read(FILE), links).config
    back = changes(without, read(FILE + MORE.replace('secret = "x"', 'secret = "x"\nport = 8999')), links)
    assert back.applied == ("pbx.second", "trunk.b")
    assert back.waiting == ("pbx.second.port",)
    assert back.config.pbx["second"].port is None


def test_certificates_change_and_plain_http_does_not_become_tls(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem", "key.pem"):
        (tmp_path / name).write_text("a file that is there")
    listen = 'listen = "127.0.0.1:8088"'
    tls = f'{listen}\ntls_certificate = "{tmp_path}/a.pem"\ntls_key = "{tmp_path}/key.pem"'
    secure = FILE.replace(listen, tls)
    change = compared(secure, secure.replace("a.pem", "b.pem"))
    assert (change.applied, change.waiting) == (("server.tls_certificate",), ())
    change = compared(FILE, secure)
    assert (change.applied, change.waiting) == ((), ("server.tls_certificate", "server.tls_key"))


def test_the_keys_that_bind_at_once_are_keys_of_the_configuration() -> None:
    for section, names in AT_ONCE.items():
        kind = Config.model_fields[section].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        assert names <= kind.model_fields.keys()
    assert PbxConfig.model_fields.keys() >= PBX_LIMITS | PBX_LINK
