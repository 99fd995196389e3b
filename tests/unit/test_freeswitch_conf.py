"""The files of freeswitch-conf/: well-formed, safe as shipped, and what the driver and the documents name."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import dialerd.pbx
from dialerd.pbx import wire
from dialerd.pbx.driver import Originate, Place
from dialerd.pbx.esl_events import EVENTS

ROOT = Path(__file__).parents[2] / "freeswitch-conf"
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = sorted(ROOT.rglob("*.xml"))
CALL = "11111111-2222-3333-4444-555555555555"


def parsed(name: str) -> ElementTree.Element:
    return ElementTree.parse(ROOT / name).getroot()


def parameters(element: ElementTree.Element) -> dict[str, str]:
    return {each.attrib["name"]: each.attrib["value"] for each in element.iter("param")}


def extensions(context: str) -> dict[str, ElementTree.Element]:
    (found,) = (each for each in parsed("dialplan/dialerd.xml").iter("context") if each.get("name") == context)
    return {each.attrib["name"]: each for each in found.iter("extension")}


def actions(extension: ElementTree.Element) -> list[tuple[str, str]]:
    return [(each.attrib["application"], each.get("data", "")) for each in extension.iter("action")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_well_formed_and_the_readme_tells_of_it(path: Path) -> None:
    # FreeSWITCH reads a file that it includes by what stands inside <include>; event_socket.conf.xml stands alone.
    assert ElementTree.parse(path).getroot().tag in ("include", "configuration")
    assert f"`{path.relative_to(ROOT)}`" in README


def test_an_include_stands_on_a_line_of_its_own() -> None:
    """FreeSWITCH leaves out the whole line that <include> stands on."""
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert all(line in ("<include>", "</include>") for line in lines if "include>" in line), path.name


def test_the_event_socket_is_open_to_this_machine_alone() -> None:
    settings = parameters(parsed("autoload_configs/event_socket.conf.xml"))
    assert (settings["listen-ip"], settings["apply-inbound-acl"]) == ("127.0.0.1", "loopback.auto")


def test_the_readmes_command_replaces_the_shipped_password() -> None:
    pattern = re.search(r's\|(name=\\"password\\" value=\\"change-me\\")\|', README)
    assert pattern is not None
    shipped = (ROOT / "autoload_configs/event_socket.conf.xml").read_text(encoding="utf-8")
    assert shipped.count(pattern[1].replace("\\", "")) == 1


@pytest.mark.parametrize("name", ["answered", "agent", "sales"])
def test_an_agents_place_is_an_extension_of_that_very_name(name: str) -> None:
    extension = extensions("dialerd")[name]
    assert [each.get("expression") for each in extension.iter("condition")] == [f"^{name}$"]
    order = Originate(CALL, "sofia/gateway/carrier-a/12025550100", None, Place(context="dialerd", exten=name), 5.0, 60)
    assert f" {name} XML dialerd\n" in wire.esl_originate(order, CALL).decode()


def test_every_place_hangs_up_by_itself() -> None:
    for extension in extensions("dialerd").values():
        assert actions(extension)[-1] == ("hangup", "NORMAL_CLEARING")


def test_a_redirect_is_not_followed_behind_loopback_either() -> None:
    for extension in extensions("dialerd-out").values():
        done = actions(extension)
        assert done.index(("export", "nolocal:outbound_redirect_fatal=true")) < [name for name, _ in done].index(
            "bridge"
        )


def test_calls_that_come_in_are_refused() -> None:
    assert [actions(each) for each in extensions("dialerd-inbound").values()] == [[("respond", "404")]]


def test_the_example_gateway_is_pinged_and_is_the_trunk_that_the_readme_names() -> None:
    gateway = parsed("sip_profiles/external/carrier-a.xml").find("gateway")
    assert gateway is not None
    settings = parameters(gateway)
    assert int(settings["ping"]) > 0
    assert settings["context"] == "dialerd-inbound"
    assert re.findall(r'`dial = "([^"]+)"`', README) == [f"sofia/gateway/{gateway.get('name')}/{{number}}"]


def test_the_readme_names_every_event_and_command_that_the_driver_needs() -> None:
    asked = README[README.index("## What dialerd asks of it") : README.index("## What to leave alone")]
    for event in (*EVENTS, "sofia::gateway_state"):
        assert re.search(rf"\b{event}\b", asked), event
    sources = [path.read_text(encoding="utf-8") for path in Path(dialerd.pbx.__path__[0]).glob("*.py")]
    commands = {name for source in sources for name in re.findall(r'esl_api\("(\w+)"', source)}
    assert len(commands) >= 5
    for command in commands:
        assert f"`{command}" in asked, command
