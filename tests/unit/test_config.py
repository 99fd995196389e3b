"""The configuration: what is accepted, how every error is told, and that the example file names every key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dialerd.config import Config, ConfigError, keys, load, parse, warnings
from dialerd.core.model import Pbx, Tenant, Trunk
from dialerd.core.places import AllowedPlaces

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "dialerd.toml"

MINIMAL = """
[pbx.main]
driver = "asterisk"
username = "dialerd"
secret = "hunter2"
max_calls_per_second = 20
max_channels = 200
[trunk.carrier-a]
pbx = "main"
dial = "PJSIP/{number}@carrier-a"
max_calls_per_second = 10
max_channels = 100
caller_ids = ["+12025550199"]
[tenant.default]
max_calls_per_second = 10
max_concurrent_calls = 100
trunks = ["carrier-a"]
"""


def read(text: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Config:
    """Parse a text, with an environment and secret files of its own."""

    def open_file(path: Path) -> str:
        try:
            return (files or {})[str(path)]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    return parse(text, environ or {}, Path("/etc/dialerd/dialerd.toml"), open_file)


def refused(
    text: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The problems of a text that must not be accepted, by key path."""
    with pytest.raises(ConfigError) as caught:
        read(text, environ, files)
    assert len(dict(caught.value.problems)) == len(caught.value.problems), caught.value.problems
    assert all("hunter2" not in message for message in (str(caught.value), repr(caught.value)))
    return dict(caught.value.problems)


def test_the_least_configuration_has_the_defaults_of_everything_else() -> None:
    config = read(MINIMAL)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8088)
    assert config.store.url == "sqlite:////var/lib/dialerd/dialerd.db"
    assert config.numbers.validation == "possible"
    assert config.pbx["main"].link_port == 5038
    assert config.dispatch.cps_guard_ms == 60


def test_core_values_are_made_from_it() -> None:
    config = read(MINIMAL + '[tenant.default.settings]\ntimezone = "Europe/Berlin"\nblackouts = [2030-12-25]\n')
    assert config.pbxs() == (Pbx("main", 20, 200),)
    assert config.trunks() == (Trunk("carrier-a", "main", "PJSIP/{number}@carrier-a", 10, 100, ("+12025550199",)),)
    settings = {"timezone": "Europe/Berlin", "blackouts": ["2030-12-25"]}
    assert config.tenants() == (Tenant("default", 10, 100, ("carrier-a",), settings=settings),)


def test_a_freeswitch_needs_a_secret_and_no_username() -> None:
    of_freeswitch = MINIMAL.replace('driver = "asterisk"', 'driver = "freeswitch"').replace(
        'username = "dialerd"\n', ""
    )
    of_freeswitch = of_freeswitch.replace("PJSIP/{number}@carrier-a", "sofia/gateway/carrier-a/{number}")
    pbx = read(of_freeswitch).pbx["main"]
    assert (pbx.driver, pbx.link_port) == ("freeswitch", 8021)
    with pytest.raises(ConfigError, match=r"pbx\.main\.secret: is missing"):
        read(of_freeswitch.replace('secret = "hunter2"', ""))


def test_agents_may_name_every_context_but_the_ways_out_or_those_that_are_listed() -> None:
    through = MINIMAL.replace("PJSIP/{number}@carrier-a", "Local/{number}@from-internal")
    assert read(through).places() == AllowedPlaces(frozenset(), None, frozenset({"from-internal", "dialerd-out"}))
    listed = read('[agents]\napplications = ["Playback"]\ncontexts = ["sales", "From-Internal"]\n' + through)
    assert listed.places() == AllowedPlaces(
        frozenset({"Playback"}), frozenset({"sales", "From-Internal"}), read(through).places().ways_out
    )
    assert [path for path, _ in warnings(listed)] == ["agents.contexts[1]"]
    assert read("[agents]\ncontexts = []\n" + MINIMAL).places().contexts == frozenset()


def test_it_is_frozen() -> None:
    config = read(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.server.listen = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("was", "becomes", "path", "message"),
    [
        ('driver = "asterisk"', 'driver = "asterix"', "pbx.main.driver", "must be 'asterisk'"),
        ('driver = "asterisk"', 'driver = "freeswitch"', "pbx.main.username", "is for asterisk only"),
        ("max_channels = 200", "max_channels = 0", "pbx.main.max_channels", "must be above 0, not 0"),
        ("max_channels = 200", "max_channels = 2.5", "pbx.main.max_channels", "must be a whole number, not 2.5"),
        ("max_channels = 200", "max_channels = true", "pbx.main.max_channels", "must be a whole number, not true"),
        ("max_channels = 200", 'max_channels = "9"', "pbx.main.max_channels", 'must be a whole number, not "9"'),
        ("max_channels = 200", "", "pbx.main.max_channels", "is missing"),
        ("max_calls_per_second = 20", "max_calls_per_second = nan", "pbx.main.max_calls_per_second", "must be"),
        ("max_calls_per_second = 20", "max_calls_per_second = inf", "pbx.main.max_calls_per_second", "must be at most"),
        ('username = "dialerd"', "", "pbx.main.username", "is missing"),
        ('username = "dialerd"', 'username = "a\\r\\nAction: x"', "pbx.main.username", "without line breaks"),
        ('secret = "hunter2"', "", "pbx.main.secret", "is missing; give it, or secret_file"),
        ('secret = "hunter2"', 'secret = ""', "pbx.main.secret", "must be one line, and not empty"),
        ('secret = "hunter2"', 'secret = "hunter2\\n"', "pbx.main.secret", "must be one line"),
        ('secret = "hunter2"', 'secret = ["hunter2"]', "pbx.main.secret", "must be a text"),
        ('secret = "hunter2"', 'secert = "hunter2"\nsecret="a"', "pbx.main.secert", "did you mean secret?"),
        ('secret = "hunter2"', 'secret = "x"\nsimulated = {}', "pbx.main.simulated", 'driver = "simulated" only'),
        ('pbx = "main"', 'pbx = "mian"', "trunk.carrier-a.pbx", "names no [pbx.…]: 'mian'; did you mean main?"),
        ("caller_ids", "reserved_channels = 100\ncaller_ids", "trunk.carrier-a.reserved_channels", "leaves none of"),
        ("caller_ids", "caller_id_format = 'E164'\ncaller_ids", "trunk.carrier-a.caller_id_format", "must be"),
        ("caller_ids", "suspend_after = 1\ncaller_ids", "trunk.carrier-a.suspend_after", "must be at least 2"),
        ("caller_ids", "probe_seconds = 0\ncaller_ids", "trunk.carrier-a.probe_seconds", "must be"),
        ("{number}@", "@", "trunk.carrier-a.dial", "must say where the number goes"),
        ("{number}@", "{nubmer}@", "trunk.carrier-a.dial", "{nubmer} is unknown"),
        ("+12025550199", "12025550199", "trunk.carrier-a.caller_ids[0]", "E.164"),
        ('trunks = ["carrier-a"]', "trunks = []", "tenant.default.trunks", "must have at least 1"),
        ('trunks = ["carrier-a"]', 'trunks = "carrier-a"', "tenant.default.trunks", "must be a list"),
        ('["carrier-a"]', '["carrier-b"]', "tenant.default.trunks[0]", "did you mean carrier-a?"),
        ('["carrier-a"]', '["carrier-a", "carrier-a"]', "tenant.default.trunks[1]", "is there twice"),
        ("[tenant.default]", "[tenant.default]\ndefault_region = 'USA'", "tenant.default.default_region", "region"),
        ("[tenant.default]", "[tenant.default]\nsettings.timezone='X'", "tenant.default.settings.timezone", "IANA"),
        ("[tenant.default]", "[tenant.default]\nsettings.a=1", "tenant.default.settings.a", "is not a key"),
        *[
            (
                "[tenant.default]",
                f"[tenant.default]\nsettings.variables.a={value}",
                "tenant.default.settings.variables.a",
                words,
            )
            for value, words in (('"a\\nb"', "must not hold line breaks"), (f'"{"x" * 901}"', "a call carries 900"))
        ],
        (
            "[tenant.default]",
            "[tenant.default]\nsettings.retry.busy={delay_seconds=-1}",
            "tenant.default.settings.retry.busy.delay_seconds",
            "must be at least 0, not -1",
        ),
        (
            "[tenant.default]",
            "[tenant.default]\nsettings.trunks=['carrier-b']",
            "tenant.default.settings.trunks[0]",
            "is no trunk of this tenant",
        ),
        (
            "[tenant.default]",
            "[tenant.default]\nsettings.caller_ids=['0199']",
            "tenant.default.settings.caller_ids[0]",
            "E.164",
        ),
        (
            "[tenant.default]",
            "[tenant.default]\nsettings.caller_ids=['+12025550111']",
            "tenant.default.settings.caller_ids[0]",
            "is no caller ID of this tenant: '+12025550111'",
        ),
        (
            "[tenant.default]",
            "[tenant.default]\ncaller_ids=['+12025550111']\nsettings.caller_ids=['+12025550199']",
            "tenant.default.settings.caller_ids[0]",
            "is no caller ID of this tenant: '+12025550199'",
        ),
        ("[tenant.default]", "[tenant.default]\ncaller_ids=['5']", "tenant.default.caller_ids[0]", "E.164"),
        (
            "[tenant.default]",
            "[tenant.default]\nallowed_prefixes=['44']",
            "tenant.default.allowed_prefixes[0]",
            "+4420",
        ),
        ("[tenant.default]", "[tenant.default]\nmax_calls_per_day=0", "tenant.default.max_calls_per_day", "at least 1"),
        (
            "[tenant.default]",
            "[tenant.default]\nmax_calls_per_number=1.5",
            "tenant.default.max_calls_per_number",
            "must be",
        ),
        (
            "[tenant.default]",
            "[tenant.default]\nnumber_period_hours=0.0",
            "tenant.default.number_period_hours",
            "must be",
        ),
        ("[tenant.default]", '[tenant."a b"]', 'tenant."a b"', "a name has letters, digits"),
        ("[tenant.default]", "[trunks.x]\n[tenant.default]", "trunks", "is not a key that dialerd knows"),
        ("[tenant.default]", "[server]\nlisten='8088'\n[tenant.default]", "server.listen", "must be an address"),
        ("[tenant.default]", "[server]\nlisten='h:70000'\n[tenant.default]", "server.listen", "must be an address"),
        ("[tenant.default]", "[numbers]\nvalidate=''\n[tenant.default]", "numbers.validate", "'possible' or 'valid'"),
        ("[tenant.default]", "[agents]\napplications=['A(b)']\n[tenant.default]", "agents.applications[0]", "alone"),
        ("[tenant.default]", "[agents]\ncontexts=['a,b']\n[tenant.default]", "agents.contexts[0]", "alone"),
        ("[tenant.default]", "[store]\nurl='sqlite://'\n[tenant.default]", "store.url", "must name a SQLite file"),
        ("[tenant.default]", "[store]\nurl='p://u:hunter2@h/d'\n[tenant.default]", "store.url", "must name a SQLite"),
        ("[tenant.default]", "[store]\nurl='postgresql://u:hunter2@h'\n[tenant.default]", "store.url", "PostgreSQL"),
        ("[tenant.default]", "[store]\nurl='postgres://u:hunter2@h/d'\n[tenant.default]", "store.url", "postgresql:"),
        ("[tenant.default]", "[logging]\nfull_numbers=1\n[tenant.default]", "logging.full_numbers", "true or false"),
    ],
)
def test_one_error_is_told_with_its_key_path(was: str, becomes: str, path: str, message: str) -> None:
    changed = MINIMAL.replace(was, becomes, 1)
    assert changed != MINIMAL
    problems = refused(changed)
    assert list(problems) == [path]
    assert message in problems[path]


def with_dial(driver: str, dial: str) -> str:
    """A configuration with this dial string on a PBX of this driver."""
    text = MINIMAL.replace("PJSIP/{number}@carrier-a", dial)
    login = 'driver = "asterisk"\nusername = "dialerd"'
    return text if driver == "asterisk" else text.replace(login, f'driver = "{driver}"')


@pytest.mark.parametrize(
    ("driver", "dial", "words"),
    [
        ("asterisk", "PJSIP/{number}@carrier a", "no call can be sent with it"),
        ("asterisk", "PJSIP/{number}@a&PJSIP/{number}@b", "one destination"),
        ("asterisk", "PJSIP/{number}@a,30", "of letters, digits and + @ . _ : ; = / * # -"),
        ("asterisk", "{number}", "TECHNOLOGY/…"),
        ("asterisk", "PJSIP/{number}@" + "a" * 234, "is longer than 255 characters"),
        ("asterisk", "Local/{e164}@" + "a" * 232, "is longer than 255 characters"),
        ("freeswitch", "sofia/gateway/a/{number}|sofia/gateway/b/{number}", "one destination"),
        ("freeswitch", "sofia/gateway/a/{number},sofia/gateway/b/{number}", "one destination"),
        ("freeswitch", "[leg_timeout=20]sofia/gateway/a/{number}", "TECHNOLOGY/…"),
        ("freeswitch", "sofia/gateway/a/{number}:_:sofia/gateway/b/{number}", "starts another call"),
        ("freeswitch", "sofia/gateway/" + "a" * 79 + "/{number}/" + "b" * 900, "is longer than 1000 characters"),
        *[
            ("freeswitch", f"sofia/gateway/{name}/{{number}}", f"cannot be asked for its gateway '{name}'")
            for name in ("carrier~1", "carrier%201", "a=b", "a;b", "g" * 80)
        ],
    ],
)
def test_a_dial_string_that_no_call_can_be_sent_with(driver: str, dial: str, words: str) -> None:
    problems = refused(with_dial(driver, dial))
    assert list(problems) == ["trunk.carrier-a.dial"]
    assert words in problems["trunk.carrier-a.dial"]


@pytest.mark.parametrize(
    ("driver", "dial"),
    [
        ("asterisk", "PJSIP/{number}@" + "a" * 225),
        ("asterisk", "PJSIP/carrier-a/sip:{e164}@192.0.2.7:5061;transport=tls"),
        ("asterisk", "Local/{national}@from-internal/n"),
        ("freeswitch", "sofia/gateway/carrier-a/{number}"),
        ("freeswitch", "sofia/gateway/" + "g" * 79 + "/{number}"),
        ("freeswitch", "sofia/external/{e164}@192.0.2.7:5061;transport=tls"),
        ("freeswitch", "loopback/{number}/dialerd-out"),
        ("simulated", "whatever it is, {number}"),
    ],
)
def test_dial_strings_that_calls_are_sent_with(driver: str, dial: str) -> None:
    text = with_dial(driver, dial).replace('secret = "hunter2"', "" if driver == "simulated" else 'secret = "hunter2"')
    assert read(text).trunk["carrier-a"].dial == dial


def test_a_table_in_the_place_of_a_value_and_the_reverse() -> None:
    problems = refused('server = 3\npbx = 4\n[trunk]\na = "hunter2"\n[tenant.t]\ntrunks.x = 1\n')
    assert {path: problems[path] for path in ("server", "pbx", "trunk.a", "tenant.t.trunks")} == {
        "server": "must be a table",
        "pbx": "must be a table",
        "trunk.a": "must be a table",
        "tenant.t.trunks": "must be a list",
    }


def test_all_errors_are_told_at_once() -> None:
    text = MINIMAL.replace('pbx = "main"', 'pbx = "other"').replace("max_channels = 200", "max_channels = -1")
    problems = refused("[server]\nport = 1\n" + text, {"DIALERD_STORE__ULR": "x"})
    assert set(problems) == {"server.port", "trunk.carrier-a.pbx", "pbx.main.max_channels", "DIALERD_STORE__ULR"}


def test_a_syntax_error_is_told_with_its_line() -> None:
    problems = refused("[server]\nlisten = \n")
    assert "line 2" in problems["/etc/dialerd/dialerd.toml"]


def test_a_file_that_is_not_there_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml", {})
    assert caught.value.problems == [(str(tmp_path / "none.toml"), "cannot be read: No such file or directory")]
    (tmp_path / "latin.toml").write_bytes("# caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin.toml", {})


def test_no_secret_is_shown() -> None:
    config = read(MINIMAL)
    assert config.pbx["main"].secret is not None
    assert config.pbx["main"].secret.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config) + str(config) + config.model_dump_json()


# --- secret_file ---


WITH_FILE = MINIMAL.replace('secret = "hunter2"', 'secret_file = "ami.secret"')


@pytest.mark.parametrize("file", ["ami.secret", "/run/credentials/ami"])
def test_a_secret_file_holds_the_secret(file: str) -> None:
    config = read(WITH_FILE.replace("ami.secret", file), files={str(Path("/etc/dialerd") / file): "hunter2\n"})
    assert config.pbx["main"].secret is not None
    assert config.pbx["main"].secret.get_secret_value() == "hunter2"


def test_a_secret_file_that_holds_none() -> None:
    missing = {"pbx.main.secret_file": "cannot be read: No such file or directory"}
    assert refused(WITH_FILE) == missing
    for content in ("", "\n", "hunter2\nhunter2\n"):
        problems = refused(WITH_FILE, files={"/etc/dialerd/ami.secret": content})
        assert problems == {"pbx.main.secret_file": "must hold one line, and not an empty one"}


def test_a_secret_beside_a_secret_file() -> None:
    text = MINIMAL.replace('secret = "hunter2"', 'secret = "hunter2"\nsecret_file = "ami.secret"')
    assert refused(text) == {"pbx.main.secret_file": "is given beside secret; give one of them"}


WITH_TLS = MINIMAL + '[server]\ntls_certificate = "server.pem"\ntls_key = "/etc/ssl/server.key"\n'
TLS_FILES = {"/etc/dialerd/server.pem": "PEM", "/etc/ssl/server.key": "PEM"}


def test_the_files_of_tls_are_looked_for_beside_the_configuration() -> None:
    server = read(WITH_TLS, files=TLS_FILES).server
    assert (server.tls_certificate, server.tls_key) == tuple(map(Path, TLS_FILES))


def test_files_of_tls_that_are_not_there_and_half_a_pair() -> None:
    reason = "cannot be read: No such file or directory"
    assert refused(WITH_TLS) == {"server.tls_certificate": reason, "server.tls_key": reason}
    half = WITH_TLS.replace('tls_key = "/etc/ssl/server.key"', "")
    assert refused(half, files=TLS_FILES) == {"server.tls_key": "is missing beside tls_certificate"}


@pytest.mark.parametrize(("listen", "warned"), [("0.0.0.0:80", 1), ("[::1]:80", 0), ("localhost:80", 0), ("box:80", 1)])
def test_plain_http_beyond_this_machine_is_warned_of(listen: str, warned: int) -> None:
    for text, count in ((MINIMAL + "[server]\n", warned), (WITH_TLS, 0)):
        config = read(f'{text}listen = "{listen}"\n', files=TLS_FILES)
        assert [key for key, _ in warnings(config)].count("server.listen") == count


def test_the_environments_secret_replaces_the_file_of_the_configuration() -> None:
    config = read(WITH_FILE, {"DIALERD_PBX__MAIN__SECRET": "other"})
    assert config.pbx["main"].secret is not None
    assert config.pbx["main"].secret.get_secret_value() == "other"


# --- the environment ---


def test_variables_override_keys_of_every_type() -> None:
    config = read(
        MINIMAL,
        {
            "DIALERD_STORE__URL": "sqlite:////tmp/x.db",
            "DIALERD_PBX__MAIN__PORT": "5039",
            "DIALERD_PBX__MAIN__SECRET": "12345",
            "DIALERD_TRUNK__CARRIER_A__MAX_CALLS_PER_SECOND": "0.5",
            "DIALERD_TRUNK__CARRIER_A__CALLER_IDS": "+12025550101, +12025550102",
            "DIALERD_TENANT__DEFAULT__TRUNKS": '["carrier-a"]',
            "DIALERD_TENANT__DEFAULT__SETTINGS__RETRY": '{"busy": {"delay_seconds": 5}}',
            "DIALERD_LOGGING__FULL_NUMBERS": "true",
            "DIALERD_NUMBERS__VALIDATE": "valid",
            "dialerd_lower": "is not ours",
            "PATH": "/bin",
        },
    )
    assert config.store.url == "sqlite:////tmp/x.db"
    assert config.pbx["main"].port == 5039
    assert config.pbx["main"].secret is not None
    assert config.pbx["main"].secret.get_secret_value() == "12345"
    assert config.trunk["carrier-a"].max_calls_per_second == 0.5
    assert config.trunk["carrier-a"].caller_ids == ("+12025550101", "+12025550102")
    assert config.tenants()[0].settings == {"retry": {"busy": {"delay_seconds": 5}}}
    assert config.logging.full_numbers is True
    assert config.numbers.validation == "valid"


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("DIALERD_SERVER__LISTEM", "names no key of the configuration; did you mean LISTEN?"),
        ("DIALERD_SERVRE__LISTEN", "names no key of the configuration; did you mean SERVER?"),
        ("DIALERD_SERVER", "names the table [server], not one of its keys"),
        ("DIALERD_TRUNK", "names the table [trunk], not one of its keys"),
        ("DIALERD_TRUNK__CARRIER_A", "names the table [trunk.carrier-a], not one of its keys"),
        ("DIALERD_TRUNK__CARRIER_B__DIAL", "names no [trunk.…] of the file; did you mean CARRIER_A?"),
        ("DIALERD_SERVER__LISTEN__PORT", "server.listen is set as a whole, not by parts"),
        ("DIALERD_", "names no key of the configuration"),
    ],
)
def test_a_variable_that_names_no_key(variable: str, message: str) -> None:
    assert refused(MINIMAL, {variable: "hunter2"}) == {variable: message}


def test_a_variable_that_could_mean_two_tables() -> None:
    text = MINIMAL + MINIMAL[MINIMAL.index("[trunk") : MINIMAL.index("[tenant")].replace("carrier-a]", "carrier_a]")
    variable = "DIALERD_TRUNK__CARRIER_A__MAX_CHANNELS"
    assert refused(text, {variable: "5"}) == {variable: "could mean carrier-a or carrier_a"}


def test_an_error_of_a_variable_names_it() -> None:
    problems = refused(MINIMAL, {"DIALERD_PBX__MAIN__PORT": "many"})
    assert problems == {"pbx.main.port": 'must be a whole number, not "many" (set by DIALERD_PBX__MAIN__PORT)'}


# --- warnings ---


def test_what_is_most_likely_not_meant_is_warned_of() -> None:
    assert warnings(read(MINIMAL)) == []
    text = MINIMAL.replace("max_calls_per_second = 10", "max_calls_per_second = 30", 1)
    other = MINIMAL[: MINIMAL.index("[trunk")].replace("main", "spare")
    found = dict(warnings(read(text[: text.index("[tenant")] + other)))
    assert set(found) == {"trunk.carrier-a.max_calls_per_second", "trunk.carrier-a", "pbx.spare", "tenant"}


# --- the example file ---


def uncommented(text: str) -> str:
    """The example with its optional keys switched on."""
    return re.sub(r"^# (?=\[[a-zA-Z.]+\]|[a-z_]+ = )", "", text, flags=re.MULTILINE)


def written(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of all keys in a file, with a star for each name that the administrator chooses."""
    for key, value in table.items():
        name = "*" if prefix in ("pbx.", "trunk.", "tenant.") else key
        if isinstance(value, dict) and f"{prefix}{name}" not in LEAVES:
            yield from written(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


LEAVES = {"tenant.*.settings.retry", "tenant.*.settings.variables", "pbx.*.simulated.shares"}


def known(kind: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all keys that the models know."""
    for key, inner in (keys.keys_of(kind) or {}).items():
        table = keys.named(inner)
        if table is not None and f"{prefix}{key}" not in LEAVES:
            yield from known(table, f"{prefix}{key}.*.")
        elif keys.keys_of(inner) is not None:
            yield from known(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_the_example_file_loads_as_it_is() -> None:
    config = load(EXAMPLE, {})
    assert warnings(config) == []


@pytest.mark.parametrize("name", ["demo.toml", "demo-asterisk.toml"])
def test_the_demonstrations_files_load(name: str) -> None:
    assert warnings(load(ROOT / "config" / "examples" / name, {})) == []


def test_the_example_file_names_every_key_and_no_other() -> None:
    example = set(written(tomllib.loads(uncommented(EXAMPLE.read_text()))))
    models = set(known(Config))
    assert example == models
    assert len(models) > 60


EXAMPLES_NOT_DEFAULTS = {
    "server.upload_folder",
    "server.tls_certificate",
    "server.tls_key",
    "tenant.default.caller_ids",
    "tenant.default.allowed_prefixes",
    "tenant.default.max_calls_per_day",
    "tenant.default.max_calls_per_number",
    "numbers.default_region",
    "agents.contexts",
    "tenant.default.default_region",
    "tenant.default.default_agent",
    "tenant.default.settings.retry",
    "tenant.default.settings.max_calls_per_second",
    "tenant.default.settings.max_attempts_per_day",
    "tenant.default.settings.start_at",
    "tenant.default.settings.end_at",
    "tenant.default.settings.variables",
    "pbx.sim.simulated.contexts",
    "pbx.sim.simulated.seed",
}


def test_what_the_example_file_shows_commented_out_is_valid_and_the_default() -> None:
    plain = EXAMPLE.read_text()
    full = uncommented(plain).replace("secret_file =", "# secret_file =")
    full = full.replace("[pbx.NAME.simulated]", "[pbx.sim.simulated]")
    sim = '\n[pbx.sim]\ndriver = "simulated"\nmax_calls_per_second = 1\nmax_channels = 1\n'
    files = dict.fromkeys(("/etc/dialerd/server.pem", "/etc/dialerd/server.key"), "PEM")
    shown, default = read(full + sim, files=files).model_dump(), read(plain + sim).model_dump()
    differing = set(_differing(shown, default))
    assert differing == EXAMPLES_NOT_DEFAULTS


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in one.keys() | other.keys():
        left, right, path = one.get(key), other.get(key), f"{prefix}{key}"
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping) and not path.endswith((".retry", ".variables")):
            yield from _differing(left, right, f"{path}.")
        else:
            yield path.replace("validation", "validate")
