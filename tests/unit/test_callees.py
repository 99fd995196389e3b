"""The simulated callees: drawn times, the table by number, dial strings, and settings that make sense."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dialerd.clock import stream
from dialerd.pbx.callees import BY_NUMBER, Behaviour, SimulatedSettings, has_contact, number_in, trunk_in, written
from tests.lab.far_end import BEHAVIOURS

SETTINGS = SimulatedSettings()


def numbered(suffix: str) -> str:
    return f"PJSIP/120255501{suffix}@trunk"


@pytest.mark.parametrize("suffix", BY_NUMBER)
def test_the_table_by_number_is_that_of_the_labs_far_end(suffix: str) -> None:
    there, here = BEHAVIOURS[suffix], BY_NUMBER[suffix]
    assert here.sip_status == (there.status or None)
    assert here.rings == (there.first in ("ring", "early"))
    assert (here.ring, here.talk, here.silent) == (there.wait, there.talk, there.silent)


def test_times_stay_within_their_ranges() -> None:
    settings = replace(SETTINGS, shares={Behaviour.ANSWER: 1.0}, abandon_share=0.0)
    draw = stream(1)
    scripts = [written("PJSIP/12025550100@trunk", False, settings, draw) for _ in range(500)]
    for values, (low, high) in (
        ([script.post_dial for script in scripts], settings.post_dial_seconds),
        ([script.ring for script in scripts], settings.ring_seconds),
        ([script.talk or 0.0 for script in scripts], settings.talk_seconds),
    ):
        assert low <= min(values) < low + (high - low) * 0.1
        assert high - (high - low) * 0.1 < max(values) <= high


def test_numbers_outside_the_table_are_drawn_by_shares() -> None:
    settings = replace(SETTINGS, by_number=True, shares={Behaviour.BUSY: 1.0})
    assert "99" not in BY_NUMBER
    assert written(numbered("99"), False, settings, stream(1)).sip_status == 486
    assert written(numbered("11"), False, settings, stream(1)) is BY_NUMBER["11"]
    assert written(numbered("11"), False, replace(settings, by_number=False), stream(1)).sip_status == 486


@pytest.mark.parametrize(
    ("dial", "number", "trunk"),
    [
        ("PJSIP/12025550100@carrier-a", "12025550100", "PJSIP/{number}@carrier-a"),
        ("PJSIP/+12025550100@carrier-2", "12025550100", "PJSIP/{number}@carrier-2"),
        ("PJSIP/trunk1/sip:12025550100@10.0.0.1:5060", "12025550100", "PJSIP/trunk1/sip:{number}@10.0.0.1:5060"),
        ("sofia/gateway/gw22/12025550100", "12025550100", "sofia/gateway/gw22/{number}"),
        ("Local/12025550100@out", "12025550100", "Local/{number}@out"),
        ("PJSIP/alice", "", "PJSIP/alice"),
    ],
)
def test_dial_strings_are_taken_apart(dial: str, number: str, trunk: str) -> None:
    assert (number_in(dial), trunk_in(dial)) == (number, trunk)


@pytest.mark.parametrize(
    ("dial", "reachable"),
    [
        ("PJSIP/12025550100@dead", False),
        ("PJSIP/12025550100@nocontact", False),
        ("sofia/gateway/dead/12025550100", False),
        ("PJSIP/12025550100@deadline", True),
        ("PJSIP/12025550100@not-dead", True),
    ],
)
def test_a_dead_endpoint_is_known_by_its_name(dial: str, reachable: bool) -> None:
    assert has_contact(dial) is reachable


@pytest.mark.parametrize(
    "change",
    [
        {"shares": {}},
        {"shares": {Behaviour.BUSY: 0.0}},
        {"shares": {Behaviour.BUSY: -1.0, Behaviour.ANSWER: 2.0}},
        {"ring_seconds": (5.0, 1.0)},
        {"talk_seconds": (-1.0, 1.0)},
        {"outage_seconds": (1.0, float("inf"))},
        {"lost_event_share": 1.5},
        {"abandon_share": -0.1},
        {"max_channels": -1},
        {"listing_lag_seconds": -1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SimulatedSettings(**change)  # type: ignore[arg-type]
