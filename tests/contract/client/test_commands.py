"""Every command against a served daemon: what it prints for people, what for programs, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta

import pytest

from dialerd.clock import SystemClock
from dialerd.webhooks.transport import Answer
from tests.contract.client.conftest import CSV, Terminal, made

DUE = (SystemClock().wall() + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:00Z")
SHOWN_DUE = DUE.replace("T", " ")


async def test_create_uploads_a_list_and_tells_what_became_of_it(terminal: Terminal) -> None:
    await terminal.says("agents", "create", "desk", "--dialplan", "dialerd,answered,2", key="admin")
    (terminal.home / "list.csv").write_text(CSV)
    told = await terminal.says(
        *("campaigns", "create", "--name", "Spring", "--agent", "desk"),
        *("--setting", "concurrent_calls=3", "--setting", "calling_days=mon,tue"),
        *("--setting", 'variables={"LANGUAGE": "en"}', "--contacts", str(terminal.home / "list.csv")),
    )
    lines = told.splitlines()
    assert lines[0].startswith("campaign ")
    assert lines[1] == "2 added, 1 duplicates, 1 invalid, 0 on the do-not-call list"
    assert lines[2].startswith("  row 5: nonsense: ")
    campaign = (await terminal.json("campaigns", "list"))["data"][0]
    assert lines[0] == f"campaign {campaign['id']} is made, in draft"
    assert campaign["settings"]["concurrent_calls"] == 3
    assert campaign["settings"]["calling_days"] == ["mon", "tue"]
    assert campaign["settings"]["variables"] == {"LANGUAGE": "en"}
    assert campaign["agent_id"] == (await terminal.json("agents", "list"))["data"][0]["id"]


async def test_create_reads_standard_input_and_may_reject_all(terminal: Terminal) -> None:
    await terminal.says("agents", "create", "desk", "--queue", "sales", key="admin")
    arguments = ("campaigns", "create", "--name", "c", "--agent", "desk", "--contacts", "-")
    assert "2 added" in await terminal.says(*arguments, stdin=CSV)
    refused = await terminal.run(*arguments, "--on-invalid", "reject", stdin=CSV)
    assert refused.exit_code == 1
    assert "row 5, phone_number: " in refused.stderr


async def test_a_campaign_goes_through_its_states(terminal: Terminal) -> None:
    campaign = await made(terminal)
    for action, status in (("start", "active"), ("pause", "paused"), ("resume", "active"), ("stop", "cancelled")):
        assert f"campaign {campaign} is {status}" in await terminal.says("campaigns", action, campaign)
    refused = await terminal.run("campaigns", "start", campaign)
    assert refused.exit_code == 1
    assert refused.stderr == "dialerd: the campaign is cancelled (campaign_finished)\n"
    assert refused.stdout == ""


async def test_start_tells_what_keeps_a_campaign_silent(terminal: Terminal) -> None:
    campaign = await made(terminal)
    assert "warning: " in await terminal.says("campaigns", "start", campaign)


async def test_stop_may_hang_up(terminal: Terminal) -> None:
    campaign = await made(terminal)
    await terminal.says("campaigns", "start", campaign)
    assert (await terminal.json("campaigns", "stop", campaign, "--hangup"))["status"] == "cancelled"


async def test_campaigns_are_listed_and_shown(terminal: Terminal) -> None:
    campaign = await made(terminal)
    head, row = (await terminal.says("campaigns", "list", "--status", "draft", "--agent", "desk")).splitlines()
    assert head.split()[:4] == ["ID", "NAME", "STATUS", "TOTAL"]
    assert row.split()[:5] == [campaign, "Spring", "draft", "2", "2"]
    assert (await terminal.says("campaigns", "list", "-q", "Autumn")).splitlines()[1:] == []
    shown = await terminal.says("campaigns", "show", campaign)
    assert "name          Spring\n" in shown
    assert "contacts      2 total, 2 pending, 0 originated" in shown
    whole = await terminal.house.ask("GET", f"/campaigns/{campaign}")
    assert await terminal.json("campaigns", "show", campaign) == whole.json


async def test_a_campaign_is_changed_setting_by_setting(terminal: Terminal) -> None:
    campaign = await made(terminal, "--setting", "calling_days=mon", "--description", "renewals")
    told = await terminal.says(
        *("campaigns", "update", campaign, "--name", "Summer", "--clear", "description"),
        *("--setting", "concurrent_calls=5", "--setting", "calling_days=sat, sun", "--setting", "timezone=Asia/Tokyo"),
        *("--setting", "keep_open=true", "--setting", 'variables={"LANGUAGE": "en"}', "--setting", "end_at="),
    )
    lines = told.splitlines()
    assert lines[0] == f"campaign {campaign} is changed"
    assert [line.split()[0] for line in lines[1:]] == [
        *("concurrent_calls", "calling_days", "timezone", "keep_open", "variables", "end_at")
    ]
    found = await terminal.json("campaigns", "show", campaign)
    settings = found["settings"]
    assert (found["name"], found["description"], settings["end_at"]) == ("Summer", None, None)
    assert (settings["concurrent_calls"], settings["calling_days"]) == (5, ["sat", "sun"])
    assert (settings["timezone"], settings["keep_open"]) == ("Asia/Tokyo", True)
    assert settings["variables"] == {"LANGUAGE": "en"}

    await terminal.says("agents", "create", "second", "--queue", "sales", key="admin")
    changed = await terminal.json("campaigns", "update", campaign, "--agent", "second")
    assert changed["agent_id"] != found["agent_id"]
    assert changed["settings"] == settings, "what is not given stays"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--setting", "concurrent_calls=many"), "settings.concurrent_calls: "),
        (("--setting", "concurrent_calls=0"), "settings.concurrent_calls: "),
        (("--setting", "timezone="), "settings.timezone: "),
        (("--setting", "calling_hours_start=9"), "settings.calling_hours_start: must be a time of day as HH:MM"),
        (("--setting", "colour=red"), "settings.colour: is not a known field"),
        (("--agent", "nobody"), "(agent_not_found)"),
    ],
)
async def test_a_change_that_does_not_fit_names_its_field(
    terminal: Terminal, given: tuple[str, ...], told: str
) -> None:
    campaign = await made(terminal)
    before = await terminal.json("campaigns", "show", campaign)
    refused = await terminal.run("campaigns", "update", campaign, *given)
    assert refused.exit_code == 1
    assert told in refused.stderr
    assert await terminal.json("campaigns", "show", campaign) == before


async def test_a_campaign_is_deleted(terminal: Terminal) -> None:
    campaign = await made(terminal)
    assert await terminal.says("campaigns", "delete", campaign) == f"campaign {campaign} is deleted\n"
    gone = await terminal.run("campaigns", "delete", campaign)
    assert (gone.exit_code, gone.stderr) == (1, "dialerd: there is no such campaign (campaign_not_found)\n")


async def test_a_contact_is_cancelled(terminal: Terminal) -> None:
    campaign = await made(terminal)
    contact = (await terminal.json("contacts", "list", campaign))["data"][0]["id"]
    assert await terminal.says("contacts", "cancel", campaign, contact) == f"contact {contact} is cancelled\n"
    assert (await terminal.json("contacts", "show", campaign, contact))["status"] == "cancelled"
    again = await terminal.run("contacts", "cancel", campaign, contact)
    assert (again.exit_code, "contact_not_pending" in again.stderr) == (1, True)


async def test_calls_are_listed(dialing: Terminal) -> None:
    await dialing.says("agents", "create", "desk", "--queue", "sales", key="admin")
    hours = ("--setting", "calling_hours_start=00:00", "--setting", "calling_hours_end=00:00")
    # Numbers that the simulated PBX lets answer.
    numbers = ["+12025550151", "+12025550251"]
    arguments = ("campaigns", "create", "--name", "c", "--agent", "desk", *hours, "--contacts", "-")
    told = await dialing.says(*arguments, stdin="\n".join(["phone_number", *numbers]))
    campaign = told.split()[1]
    await dialing.says("campaigns", "start", campaign)
    await dialing.says("tail", campaign, "--after", "0", "--until-end")
    head, *rows = (await dialing.says("calls", "list", campaign)).splitlines()
    assert head.split()[:3] == ["PLACED", "NUMBER", "ATTEMPT"]
    # The moment is two words.
    assert sorted(row.split()[2:4] for row in rows) == [[each, "1"] for each in numbers]
    contact = (await dialing.json("contacts", "list", campaign))["data"][0]["id"]
    (call,) = (await dialing.json("calls", "list", campaign, "--contact", contact, "--outcome", "answered"))["data"]
    assert call["contact_id"] == contact
    assert (await dialing.json("calls", "list", campaign, "--outcome", "busy"))["data"] == []


async def test_explain_says_why_nothing_is_dialled(terminal: Terminal) -> None:
    campaign = await made(terminal)
    lines = (await terminal.says("campaigns", "explain", campaign)).splitlines()
    told = (await terminal.house.ask("GET", f"/campaigns/{campaign}/explain")).json
    assert lines[0] == told["summary"]
    assert any(line.startswith("NO ") and "campaign" in line for line in lines)
    assert await terminal.json("campaigns", "explain", campaign) == told


async def test_contacts_are_listed_page_by_page_shown_and_added(terminal: Terminal) -> None:
    campaign = await made(terminal)
    head, row, rest = (await terminal.says("contacts", "list", campaign, "--limit", "1")).splitlines()
    assert head.split()[:3] == ["ID", "NUMBER", "NAME"]
    assert row.split()[1:4] == ["+12025550101", "Ann", "pending"]
    assert rest.startswith("1 of 2 contacts; for what follows: --after ")
    second = await terminal.says("contacts", "list", campaign, "--after", rest.split()[-1])
    assert "+12025550102" in second
    assert "+12025550101" not in second
    assert (await terminal.json("contacts", "list", campaign, "-q", "+1202555010"))["total"] == 2
    shown = await terminal.says("contacts", "show", campaign, row.split()[0])
    assert "plan             gold\n" in shown
    assert "no calls yet" in shown
    added = await terminal.says("contacts", "add", campaign, "-", stdin="phone_number\n+12025550109\n")
    assert added == "1 added, 0 duplicates, 0 invalid, 0 on the do-not-call list\n"


async def test_what_a_contact_is_called_commands_no_terminal(terminal: Terminal) -> None:
    campaign = await made(terminal)
    await terminal.says("contacts", "add", campaign, "-", stdin="phone_number,first_name\n+12025550109,\u202eevil\n")
    for command in (("contacts", "list", campaign), ("contacts", "list", campaign, "--json")):
        said = await terminal.says(*command)
        assert "evil" in said
        assert "\u202e" not in said


async def test_the_do_not_call_list(terminal: Terminal) -> None:
    told = await terminal.says("dnc", "add", "+12025550101", "2025550102", "--note", "by letter", key="admin")
    assert told == "2 added, 0 on the list already, 0 invalid\n"
    listed = (await terminal.says("dnc", "list")).splitlines()
    assert [line.split()[0] for line in listed] == ["NUMBER", "+12025550101", "+12025550102"]
    assert listed[1].endswith("by letter")
    told = await terminal.says("dnc", "remove", "+12025550101", key="admin")
    assert told == "+12025550101 is off the list\n"
    assert (await terminal.json("dnc", "list"))["total"] == 1
    (terminal.home / "dnc.csv").write_text("phone_number,note\n+12025550107,asked\n+12025550102,\n")
    told = await terminal.says("dnc", "import", str(terminal.home / "dnc.csv"), key="admin")
    assert told == "1 added, 1 on the list already, 0 invalid\n"


async def test_a_number_that_did_not_get_on_the_list_is_a_failure(terminal: Terminal) -> None:
    result = await terminal.run("dnc", "add", "+12025550101", "nonsense", key="admin")
    assert result.exit_code == 1
    assert result.stdout.startswith("1 added, 0 on the list already, 1 invalid\n")
    assert "1 of them are no numbers, and not on the list" in result.stderr


async def test_callbacks(terminal: Terminal) -> None:
    campaign = await made(terminal)
    told = await terminal.says(
        "callbacks", "create", campaign, "--number", "+12025550101", "--due", DUE, "--note", "Bob"
    )
    callback = told.split()[1].rstrip(":")
    assert told == f"callback {callback}: +12025550101 at {SHOWN_DUE}\n"
    listed = (await terminal.says("callbacks", "list", campaign)).splitlines()
    assert listed[1].startswith(f"{callback}  {SHOWN_DUE}  +12025550101")
    assert await terminal.says("callbacks", "cancel", campaign, callback) == f"callback {callback} is withdrawn\n"
    assert (await terminal.json("callbacks", "list", campaign))["data"] == []
    refused = await terminal.run("callbacks", "create", campaign, "--number", "+12025550101", "--due", "tomorrow")
    assert refused.exit_code == 1
    assert "due_at: " in refused.stderr


async def test_keys(terminal: Terminal) -> None:
    key = (await terminal.says("keys", "create", "--api", "--role", "viewer", "--name", "wall", key="admin")).strip()
    row = next(line for line in (await terminal.says("keys", "list", key="admin")).splitlines() if "wall" in line)
    assert row.split()[1:4] == ["one", "viewer", "wall"]
    headers = {"Authorization": f"Bearer {key}"}
    assert (await terminal.house.ask("GET", "/campaigns", key=None, headers=headers)).status == 200
    await terminal.says("keys", "delete", row.split()[0], key="admin")
    assert (await terminal.house.ask("GET", "/campaigns", key=None, headers=headers)).status == 401
    refused = await terminal.run("keys", "create", "--url", terminal.house.base, "--role", "viewer", key="viewer")
    assert (refused.exit_code, refused.stderr) == (1, "dialerd: the key's role does not allow this (forbidden)\n")


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (("--dialplan", "c,s,3"), "c,s,3"),
        (("--queue", "sales"), "sales"),
        (("--application", "Playback,hello"), "Playback,hello"),
    ],
)
async def test_agents(terminal: Terminal, place: tuple[str, str], shown: str) -> None:
    told = await terminal.says("agents", "create", "x", *place, "--max-calls", "4", key="admin")
    assert told.endswith(f": {shown}\n")
    row = (await terminal.says("agents", "list")).splitlines()[1].split()
    assert (row[1], row[3:]) == ("x", [shown, "4"])
    await terminal.says("agents", "delete", row[0], key="admin")
    assert (await terminal.json("agents", "list"))["total"] == 0


async def test_an_agent_is_shown_changed_and_deleted_by_its_name(terminal: Terminal) -> None:
    await terminal.says("agents", "create", "desk", "--dialplan", "dialerd,answered,2", "--max-calls", "4", key="admin")
    shown = await terminal.says("agents", "show", "desk")
    assert "place      dialerd,answered,2\nmax calls  4\n" in shown
    changed = await terminal.says("agents", "update", "desk", "--queue", "sales", "--clear", "max-calls", key="admin")
    assert "kind       queue\nplace      sales\nmax calls  -\n" in changed
    assert "name       hall\n" in await terminal.says("agents", "update", "desk", "--name", "hall", key="admin")
    changed = await terminal.says("agents", "update", "hall", "--dialplan", "c,s", "--max-calls", "9", key="admin")
    assert "place      c,s,1\nmax calls  9\n" in changed
    assert await terminal.says("agents", "delete", "hall", key="admin") == "agent hall is deleted\n"
    gone = await terminal.run("agents", "show", "hall")
    assert (gone.exit_code, "agent_not_found" in gone.stderr) == (1, True)


async def test_tenants(terminal: Terminal) -> None:
    told = await terminal.says(
        *("tenants", "create", "acme", "--max-calls-per-second", "2.5", "--max-concurrent-calls", "7"),
        *("--trunk", "a", "--trunk", "spare", "--caller-id", "+12025550199", "--allowed-prefix", "+1"),
        *("--max-calls-per-day", "500", "--setting", "timezone=Asia/Tokyo", "--setting", "max_retries=1"),
        key="system",
    )
    assert told == "tenant acme is made\n"
    row = next(line for line in (await terminal.says("tenants", "list", key="system")).splitlines() if "acme" in line)
    assert row.split() == ["acme", "7", "2.5", "500", "a,spare", "API"]
    shown = await terminal.says("tenants", "show", "acme", key="system")
    assert re.search(r"^trunks +a, spare$", shown, re.MULTILINE)
    assert re.search(r"^made in +the API$", shown, re.MULTILINE)

    await terminal.says(
        *("tenants", "update", "acme", "--weight", "2", "--trunk", "spare", "--clear", "max-calls-per-day"),
        *("--clear", "allowed-prefixes", "--setting", "max_retries=", "--setting", "concurrent_calls=3"),
        key="system",
    )
    found = await terminal.json("tenants", "show", "acme", key="system")
    assert (found["weight"], found["trunks"], found["max_calls_per_day"]) == (2.0, ["spare"], None)
    assert (found["allowed_prefixes"], found["caller_ids"]) == ([], ["+12025550199"])
    settings = found["settings"]
    assert (settings["timezone"], settings["max_retries"], settings["concurrent_calls"]) == ("Asia/Tokyo", 3, 3)
    await terminal.says("tenants", "update", "acme", "--clear", "settings", key="system")
    assert (await terminal.json("tenants", "show", "acme", key="system"))["settings"]["timezone"] == "UTC"

    for arguments, key, message in (
        (("tenants", "update", "acme", "--weight", "0"), "system", "weight: "),
        (("tenants", "update", "acme", "--trunk", "nowhere"), "system", "trunks"),
        (("tenants", "update", "one", "--weight", "2"), "system", "configured_in_file"),
        (("tenants", "update", "nobody", "--weight", "2"), "system", "tenant_not_found"),
        (("tenants", "list"), "admin", "forbidden"),
    ):
        refused = await terminal.run(*arguments, key=key)
        assert (refused.exit_code, message in refused.stderr) == (1, True), (arguments, refused.stderr)


async def test_results_to_a_file_and_to_standard_output(terminal: Terminal) -> None:
    campaign = await made(terminal)
    said = await terminal.says("results", campaign)
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [row["phone_number"] for row in rows] == ["+12025550101", "+12025550102"]
    target = terminal.home / "results.csv"
    done = await terminal.run("results", campaign, "-o", str(target))
    assert (done.exit_code, done.stdout) == (0, "")
    assert target.read_bytes().decode().splitlines() == said.splitlines()
    refused = await terminal.run("results", "nobody", "-o", str(terminal.home / "none.csv"))
    assert refused.exit_code == 1
    assert refused.stderr == "dialerd: there is no such campaign (campaign_not_found)\n"
    assert sorted(path.name for path in terminal.home.glob("*.csv")) == ["list.csv", "results.csv"]


async def test_rejected_rows_are_had_by_the_command_that_create_names(terminal: Terminal) -> None:
    await terminal.says("agents", "create", "desk", "--queue", "sales", key="admin")
    rows = "".join(f"x{number}\n" for number in range(150))
    told = await terminal.says(
        *("campaigns", "create", "--name", "c", "--agent", "desk", "--contacts", "-"),
        stdin=f"phone_number\n+12025550101\n{rows}",
    )
    command = told.splitlines()[-1].removeprefix("  all of them: dialerd ").split()
    rejected = list(csv.DictReader(io.StringIO(await terminal.says(*command))))
    assert len(rejected) == 150


async def test_top_shows_a_tenants_trunks_and_campaigns(terminal: Terminal) -> None:
    campaign = await made(terminal)
    await terminal.says("campaigns", "start", campaign)
    said = await terminal.says("top", "--once")
    assert said.startswith("0.0 calls/s, 0 of 100 channels in use")
    assert "1 active campaigns" in said.splitlines()[0]
    row = next(line for line in said.splitlines() if line.startswith(campaign))
    assert row.split()[1:3] == ["Spring", "0/7"]
    assert any(line.startswith("a ") and "main" in line for line in said.splitlines())
    assert "TENANT" not in said


async def test_top_shows_a_system_key_all_trunks_and_tenants(terminal: Terminal) -> None:
    said = await terminal.says("top", key="system")
    lines = said.splitlines()
    assert any(line.startswith("spare ") for line in lines)
    assert next(line for line in lines if line.startswith("two ")).split()[:2] == ["two", "0/100"]
    assert "CAMPAIGN" not in said
    told = json.loads(await terminal.says("top", "--once", "--json", key="system"))
    assert told["campaigns"] is None
    assert {each["id"] for each in told["tenants"]["data"]} >= {"one", "two"}


async def test_trunks_are_listed_paused_and_resumed(terminal: Terminal) -> None:
    (trunk, *_) = [each["id"] for each in (await terminal.json("trunks", "list"))["data"]]
    listed = await terminal.says("trunks", "list")
    assert listed.splitlines()[0].split() == ["TRUNK", "PBX", "STATE", "CHANNELS", "CALLS/S", "ANSWERED", "WHY"]
    refused = await terminal.run("trunks", "pause", trunk, key="admin")
    assert refused.exit_code == 1
    paused = await terminal.says("trunks", "pause", trunk, "--reason", "the carrier's maintenance", key="system")
    assert paused == f"trunk {trunk} is paused: the carrier's maintenance\n"
    assert "the carrier's maintenance" in await terminal.says("trunks", "list")
    assert (await terminal.says("trunks", "resume", trunk, key="system")).startswith(f"trunk {trunk} is ")
    unknown = await terminal.run("trunks", "pause", "nowhere", key="system")
    assert (unknown.exit_code, "trunk_not_found" in unknown.stderr) == (1, True)


async def test_webhooks_from_the_first_to_the_last(terminal: Terminal) -> None:
    url = "https://crm.example.com/hook"
    told = await terminal.says("webhooks", "create", url, "--event", "campaign", "--description", "CRM", key="admin")
    first, second = told.splitlines()
    hook = first.split()[1]
    assert (first, second.startswith("secret: whsec_")) == (f"webhook {hook} is made", True)
    head, row = (await terminal.says("webhooks", "list")).splitlines()
    assert head.split() == ["ID", "STATUS", "EVENTS", "CAMPAIGN", "URL"]
    assert row.split() == [hook, "enabled", "campaign", "-", url]
    shown = await terminal.says("webhooks", "show", hook)
    assert "events       campaign, of all campaigns\nstatus       enabled\n" in shown
    assert "whsec_" not in shown
    changed = await terminal.says("webhooks", "update", hook, "--event", "failed", "--to", f"{url}2", key="admin")
    assert f"url          {url}2\ndescription  CRM\nevents       failed, of all campaigns\n" in changed
    clear = ("--to", url, "--clear", "events", "--clear", "description")
    changed = await terminal.says("webhooks", "update", hook, *clear, key="admin")
    assert f"url          {url}\ndescription  -\nevents       all, of all campaigns\n" in changed

    campaign = await made(terminal)
    await terminal.says("campaigns", "start", campaign)
    await terminal.house.endpoint.until(lambda: bool(terminal.house.endpoint.taken))
    assert (await terminal.says("webhooks", "test", hook, key="admin")).startswith(
        "delivered: the answer was 204, after"
    )
    # A change ends what is under way, and keeps what is known.
    rotated = await terminal.says("webhooks", "rotate-secret", hook, key="admin")
    assert rotated.startswith("secret: whsec_")
    assert rotated != f"{second}\n"
    (line,) = (await terminal.says("webhooks", "deliveries", hook, "--status", "delivered")).splitlines()[1:]
    delivery = line.split()[0]
    assert line.split()[1:5] == ["campaign", "delivered", "1", "204"]
    assert "delivered" in await terminal.says("webhooks", "redeliver", hook, delivery, key="admin")

    terminal.house.endpoint.answers = lambda _: Answer(500, "the answer was 500")
    failed = await terminal.run("webhooks", "test", hook, key="admin")
    assert failed.exit_code == 1
    assert "not delivered: the answer was 500" in failed.stdout
    assert "reason       disabled by hand\n" in await terminal.says("webhooks", "disable", hook, key="admin")
    assert "status       enabled\n" in await terminal.says("webhooks", "enable", hook, "--after", "1", key="admin")
    assert await terminal.says("webhooks", "delete", hook, key="admin") == f"webhook {hook} is deleted\n"
    assert (await terminal.json("webhooks", "list"))["total"] == 0
