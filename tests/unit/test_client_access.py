"""Where the client finds the daemon and its key: command line, environment, file, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialerd.client.access import DEFAULT_URL, VARIABLES, AccessError, client_file, find
from dialerd.config.environment import PREFIX


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user's variables, with a folder of configuration files."""
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def write(environ: dict[str, str], text: str, mode: int = 0o600) -> Path:
    """Write the client's file."""
    path = client_file(environ)
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(environ: dict[str, str]) -> None:
    write(environ, 'url = "http://localhost:1"\nkey = "of-the-file"\n')
    assert (find({}, environ).url, find({}, environ).key) == ("http://localhost:1", "of-the-file")
    environ |= {"DIALER_URL": "http://localhost:2/", "DIALER_KEY": "of-the-environment"}
    assert (find({}, environ).url, find({}, environ).key) == ("http://localhost:2", "of-the-environment")
    found = find({"url": "http://localhost:3", "key": "given", "key_file": None, "ca_file": None}, environ)
    assert (found.url, found.key, found.warnings) == ("http://localhost:3", "given", ())


def test_a_key_in_a_file_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret-key\n")
    assert find({"key_file": str(tmp_path / "key")}, environ).key == "secret-key"
    assert find({"key_file": str(tmp_path / "key")}, {**environ, "DIALER_KEY": "other"}).key == "secret-key"


def test_files_that_the_file_names_lie_beside_it(environ: dict[str, str]) -> None:
    path = write(environ, 'key_file = "key"\nca_file = "ca.pem"\n')
    (path.parent / "key").write_text("k\n")
    assert (find({}, environ).key, find({}, environ).ca_file) == ("k", path.parent / "ca.pem")


def test_without_an_address_it_is_the_daemons_usual_one(environ: dict[str, str]) -> None:
    assert find({"key": "k"}, environ).url == DEFAULT_URL


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there is no key: give DIALER_KEY, --key-file or --key"),
        ({"key": "a", "key_file": "b"}, "both given"),
        ({"key_file": "/nowhere/key"}, "/nowhere/key cannot be read"),
        ({"key": "two words"}, "must be one word"),
        ({"key": "a\r\nHost: evil"}, "must be one word"),
        ({"key": "k", "url": "ftp://x"}, "is no address of a daemon"),
        ({"key": "k", "url": "localhost:8088"}, "is no address of a daemon"),
        ({"key": "k", "url": "http://"}, "is no address of a daemon"),
        ({"key": "k", "url": "http://h:port"}, "is no address of a daemon"),
        ({"key": "k", "url": "http://h/?a=b"}, "is no address of a daemon"),
    ],
)
def test_what_makes_no_sense(environ: dict[str, str], given: dict[str, str | None], message: str) -> None:
    with pytest.raises(AccessError, match=message.replace("(", "\\(")):
        find(given, environ)


@pytest.mark.parametrize(
    ("text", "message"),
    [("url = 5\n", "url must be a text"), ("uri = 'x'\n", "uri is not a key of this file"), ("url =", "client.toml: ")],
)
def test_a_file_that_makes_no_sense(environ: dict[str, str], text: str, message: str) -> None:
    write(environ, text)
    with pytest.raises(AccessError, match=message):
        find({"key": "k"}, environ)


def test_what_lets_others_see_the_key_is_warned_of(environ: dict[str, str]) -> None:
    path = write(environ, 'key = "k"\n', 0o640)
    assert find({}, environ).warnings == (f"{path} holds a key, and others may read it; run: chmod 600 {path}",)
    path.chmod(0o600)
    assert find({}, environ).warnings == ()
    (warning,) = find({"url": "http://dialer.example:8088"}, environ).warnings
    assert "crosses the network in the clear" in warning
    for url in ("https://dialer.example", "http://[::1]:8088", "http://127.0.0.2"):
        assert find({"url": url}, environ).warnings == ()


def test_a_key_is_not_shown_in_a_traceback(environ: dict[str, str]) -> None:
    assert "very-secret" not in repr(find({"key": "very-secret"}, environ))


def test_no_variable_of_the_client_is_one_of_the_daemons() -> None:
    assert not [name for name in VARIABLES.values() if name.startswith(PREFIX)]
