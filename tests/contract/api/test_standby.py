"""A standby on the same database: it shows and streams what the daemon that dials has committed, and writes nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from dialerd.clock import SystemClock
from dialerd.config import Config, ConfigError, parse
from dialerd.dispatch import feed
from dialerd.process import _Signals, _Turn
from dialerd.store import listener
from dialerd.store.lease import Lease
from dialerd.store.migrate import migrate
from dialerd.store.schema import REVISION
from dialerd.telemetry.systemd import ServiceManager
from tests.contract.api.house import DEADLINE, TOML, Answer, House, open_house
from tests.contract.api.house_on_postgres import WAITS_FOR, PostgresTemplate, open_standby
from tests.contract.api.test_events import Told, emit, stream, take
from tests.contract.api.test_webhooks import made, told
from tests.support.postgres import free_port

pytestmark = pytest.mark.postgres

ALL_DAY = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}
LISTENER = "datname = current_database() AND application_name = 'dialerd listener'"
MANY = 30_000
UNKNOWN = "standby: another daemon dials from this store; ask that one"


@pytest.fixture
def template(postgres_template: PostgresTemplate) -> PostgresTemplate:
    """In the place of the SQLite file."""
    return postgres_template


@pytest.fixture
async def pair(template: PostgresTemplate, tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    """A daemon that dials, and a standby that listens to it."""
    async with open_house(template, tmp_path, dials=True) as house, open_standby(template, tmp_path) as standby:
        await listening(template, tmp_path)
        yield house, standby


async def until(holds: Callable[[], bool], house: House) -> None:
    """Wait for a state of the database, which tells nobody when it changes."""
    async with asyncio.timeout(DEADLINE):
        while not await asyncio.to_thread(holds):
            await house.clock.sleep(0.02)


async def listening(template: PostgresTemplate, folder: Path, *, besides: str = "0") -> str:
    """Wait until a standby listens; returns the process that serves it at the server (another than ``besides``)."""
    query = f"SELECT pid FROM pg_stat_activity WHERE {LISTENER} AND query ~ 'LISTEN|SELECT 1'"
    found = ""
    async with asyncio.timeout(DEADLINE):
        while not found or found == besides:
            found = await asyncio.to_thread(template.sql, folder, query)
    return found


async def filled(house: House) -> dict[str, str]:
    """Let there be something of everything; returns the ids that the paths of the API need."""
    names = {"tenant_id": "made", "agent_id": await house.agent(name="the agent")}
    tenant = {"id": "made", "max_calls_per_second": 5, "max_concurrent_calls": 5, "trunks": ["a"]}
    assert (await house.ask("POST", "/tenants", key="system", json=tenant)).status == 201
    assert (await house.ask("POST", "/keys", key="admin", json={"name": "more", "role": "viewer"})).status == 201
    assert (await house.ask("POST", "/dnc", key="admin", json={"phone_number": "+12025550999"})).status == 200
    hook = await made(house, events=["campaign", "completed"])
    names["webhook_id"] = hook["id"]
    names["campaign_id"] = await house.campaign(agent_id=names["agent_id"], name="Spring", settings=ALL_DAY)
    path = f"/campaigns/{names['campaign_id']}"
    csv = "phone_number,first_name,plan\n" + "".join(f"+12025550{140 + each},No {each},gold\n" for each in range(12))
    body, kind = csv + "nonsense,Eve,\n", {"Content-Type": "text/csv"}
    report = (await house.ask("POST", f"{path}/contacts", data=body, headers=kind)).json
    assert (report["added"], report["invalid"]) == (12, 1)
    names["import_id"] = report["import_id"]
    due_at = (house.clock.wall() + timedelta(days=1)).isoformat()
    promise = {"phone_number": "+12025550160", "due_at": due_at, "note": "after lunch"}
    async with stream(house, names["campaign_id"], header=0) as events:
        assert (await house.ask("POST", f"{path}/callbacks", json=promise)).status == 201
        assert (await house.ask("POST", f"{path}/start")).status == 200
        ended = 0
        async with asyncio.timeout(DEADLINE):
            while ended < 12:
                ended += (await anext(events)).event == "completed"
        # Paused, nothing of it moves any more; its callback waits.
        assert (await house.ask("POST", f"{path}/pause")).status == 200
    await told(house, hook["id"], 14)
    names["contact_id"] = (await house.ask("GET", f"{path}/contacts?limit=1")).json["data"][0]["id"]
    return names


async def test_every_page_is_the_one_that_dials_shows(pair: tuple[House, House]) -> None:
    house, standby = pair
    names = await filled(house)
    paths = {route.path for route in house.routes() if route.method == "GET"}
    live = {f"/campaigns/{{campaign_id}}{each}" for each in ("/explain", "/contacts/{contact_id}", "/events")}
    same = sorted(paths - live - {"/trunks"})
    queries = ("?limit=1", "?limit=5&offset=3", "?page=2&per_page=1", "?status=completed", "?limit=0", "?q=Spring")
    answered = 0
    keys = [(each, "") for each in house.keys] + [(each, query) for each in ("viewer", "system") for query in queries]
    for path, (key, query) in itertools.product(same, keys):
        url = path.format(**names) + query
        here, there = await house.ask("GET", url, key=key), await standby.ask("GET", url, key=key)
        assert (there.status, there.body) == (here.status, here.body), (url, key)
        assert there.headers["Content-Type"] == here.headers["Content-Type"]
        assert there.headers["Dialerd-Standby"] == "true"
        answered += here.status == 200
    assert answered > 2 * len(same)
    cursor = (await house.ask("GET", f"/campaigns/{names['campaign_id']}/contacts?limit=4")).json["next"]
    url = f"/campaigns/{names['campaign_id']}/contacts?limit=4&after={cursor}"
    assert (await standby.ask("GET", url)).body == (await house.ask("GET", url)).body
    head = await standby.ask("HEAD", "/campaigns")
    assert (head.status, head.body) == (200, b"")


async def test_what_only_the_other_knows_is_not_made_up(pair: tuple[House, House]) -> None:
    house, standby = pair
    names = await filled(house)
    path = f"/campaigns/{names['campaign_id']}"
    here, there = [(await each.ask("GET", f"{path}/explain")).json for each in pair]
    assert (there["dialing"], there["summary"], there["next_moment"]) == (False, UNKNOWN, None)
    assert there["counts"] == here["counts"]
    assert [each["rule"] for each in there["rules"]] == [
        *("system", "status", "tenant", "agent", "calling_hours", "contacts"),
    ]
    own = {each["rule"]: each for each in here["rules"]}
    assert [each for each in there["rules"][1:] if each != own[each["rule"]]] == []

    here, there = [(await each.ask("GET", f"{path}/contacts/{names['contact_id']}")).json for each in pair]
    assert there.pop("explain")["summary"] == UNKNOWN
    assert here.pop("explain")["summary"] == "the campaign is paused"
    assert there == here

    assert (await house.ask("POST", "/trunks/spare/pause", key="system", json={"reason": "for now"})).status == 200
    shown = {each["id"]: each for each in (await standby.ask("GET", "/trunks", key="system")).json["data"]}
    figures = {"channels_in_use": None, "calls_per_second": None, "answer_seizure_ratio": None}
    limits = {"pbx": "main", "max_channels": 100, "max_calls_per_second": 100.0}
    assert shown["a"] == {"id": "a", "state": "unknown", "reason": UNKNOWN, **figures, **limits}
    assert shown["spare"] == {"id": "spare", "state": "paused", "reason": "for now", **figures, **limits}

    metrics = (await standby.ask("GET", "/~/metrics", key=None)).body.decode()
    assert "dialerd_standby 1.0" in metrics
    assert "dialerd_sse_clients 0.0" in metrics
    families = set(re.findall(r"^# TYPE dialerd_(\w+?)(?:_total|_created)? ", metrics, re.MULTILINE))
    assert families == {
        *("api_request_seconds", "build_info", "connections_dropped", "connections_turned_away"),
        *("event_loop_lag_seconds", "logins_failed"),
        *("sse_clients", "sse_dropped", "standby"),
    }
    assert "dialerd_standby 0.0" in (await house.ask("GET", "/~/metrics", key=None)).body.decode()
    ready = await standby.ask("GET", "/~/readyz", key=None)
    assert (ready.status, ready.json) == (503, {"ready": False, "problems": [f"standby: {WAITS_FOR}"]})
    assert (await standby.ask("GET", "/~/healthz", key=None)).status == 200


async def test_what_is_changed_there_holds_here_at_once(pair: tuple[House, House]) -> None:
    house, standby = pair
    made_key = (await house.ask("POST", "/keys", key="admin", json={"name": "k", "role": "viewer"})).json
    shown = {"Authorization": f"Bearer {made_key['key']}"}
    assert (await standby.ask("GET", "/campaigns", key=None, headers=shown)).status == 200
    assert (await house.ask("DELETE", f"/keys/{made_key['id']}", key="admin")).status == 204
    assert (await standby.ask("GET", "/campaigns", key=None, headers=shown)).problem() == (401, "unauthorized")

    assert (await standby.ask("GET", "/campaigns", key="orphan")).problem() == (403, "forbidden")
    tenant = {"id": "gone", "max_calls_per_second": 5, "max_concurrent_calls": 5, "trunks": ["a"]}
    assert (await house.ask("POST", "/tenants", key="system", json=tenant)).status == 201
    assert (await standby.ask("GET", "/campaigns", key="orphan")).status == 200
    assert (await house.ask("PATCH", "/tenants/gone", key="system", json={"weight": 3})).status == 200
    assert (await standby.ask("GET", "/tenants/gone", key="system")).json["weight"] == 3


async def refused(standby: House, method: str, path: str, key: str | None) -> Answer:
    return await standby.ask(method, path, key=key, data=b"{}", headers={"Idempotency-Key": f"{method} {path}"})


async def test_nothing_is_written_and_nothing_is_left(template: PostgresTemplate, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, dials=True) as house:
        names = await filled(house)
        routes = house.routes()
    before = await asyncio.to_thread(contents, template, tmp_path)
    tasks = asyncio.all_tasks()
    async with open_standby(template, tmp_path) as standby:
        for route in routes:
            path = route.path.format(**names, callback_id="x", delivery_id="x", key_id="x", number="%2B1", trunk_id="a")
            if route.method == "GET" and not path.endswith("/events"):
                for key in standby.keys:
                    assert (await standby.ask("GET", path, key=key)).status in (200, 403, 404)
            elif route.method != "GET":
                key = "system" if route.role == "system" else "admin"
                answer = await refused(standby, route.method, path, key)
                assert answer.problem() == (503, "standby"), (route, answer)
                assert answer.json["detail"] == f"standby: {WAITS_FOR}"
                assert 0 < int(answer.headers["Retry-After"]) <= 60
                assert (await refused(standby, route.method, path, None)).problem() == (401, "unauthorized")
                denied = await refused(standby, route.method, path, "viewer")
                assert denied.problem() == (403, "forbidden")
        guess = {"Authorization": "Bearer dk_guess"}
        for _ in range(20):
            bad = await standby.ask("GET", "/agents", key=None, headers=guess)
            assert bad.problem() == (401, "unauthorized")
        assert (await standby.ask("GET", "/agents", key=None, headers=guess)).problem() == (429, "rate_limited")
        async with stream(standby, names["campaign_id"], header=0) as events:
            await take(events, 10)
    assert await asyncio.to_thread(contents, template, tmp_path) == before
    await until(lambda: connections(template, tmp_path) == "0", standby)
    assert asyncio.all_tasks() == tasks


def contents(template: PostgresTemplate, folder: Path) -> dict[str, str]:
    """Every row of every table, as one digest of each."""
    tables = template.sql(folder, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()
    assert len(tables) > 15
    digest = "SELECT count(*) || md5(coalesce(string_agg(each::text, '|' ORDER BY each::text), ''))"
    digests = template.sql(folder, *(f'{digest} FROM "{name}" AS each' for name in tables)).split()
    return dict(zip(tables, digests, strict=True))


def connections(template: PostgresTemplate, folder: Path) -> str:
    query = "datname = current_database() AND application_name LIKE 'dialerd%'"
    return template.sql(folder, f"SELECT count(*) FROM pg_stat_activity WHERE {query}")


def as_told(events: list[Told]) -> list[tuple[int, str, str]]:
    return [(each.id, each.event, json.dumps(each.data)) for each in events]


async def test_a_stream_is_live_and_survives_its_listener(
    pair: tuple[House, House], template: PostgresTemplate, tmp_path: Path
) -> None:
    house, standby = pair
    numbers = [f"+1202555{1040 + each}" for each in range(40)]
    campaign = await house.campaign(*numbers, settings={**ALL_DAY, "concurrent_calls": 5})
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(stream(house, campaign, header=0))
        there = await stack.enter_async_context(stream(standby, campaign, header=0))
        assert (await house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
        first = await take(there, 40)
        # While calls go on the connection dies, twice: what was told meanwhile is read from the store.
        for _ in range(2):
            gone = await asyncio.to_thread(
                template.sql,
                tmp_path,
                f"SELECT pid FROM pg_stat_activity WHERE {LISTENER}",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENER}",
            )
            first += await take(there, 20)
            await listening(template, tmp_path, besides=gone.split()[0])
        whole = await rest(here, [])
        assert as_told(await rest(there, first)) == as_told(whole)
        place = whole[20].id
        again = await stack.enter_async_context(stream(standby, campaign, header=place))
        assert as_told(await take(again, len(whole) - 21)) == as_told(whole[21:])
    assert [each.id for each in whole] == sorted({each.id for each in whole})
    assert sum(each.event == "completed" for each in whole) == 40


async def rest(events: AsyncIterator[Told], had: list[Told]) -> list[Told]:
    """Read until the campaign is completed."""
    async with asyncio.timeout(DEADLINE):
        while not had or (had[-1].event, had[-1].data["status"]) != ("campaign", "completed"):
            had.append(await anext(events))
    return had


async def test_what_was_missed_in_masses_is_read_by_each_stream(
    pair: tuple[House, House], template: PostgresTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, standby = pair
    monkeypatch.setattr("dialerd.dispatch.standby.RING", 50)
    assert feed.RING > 1000
    one, other = await house.campaign(), await house.campaign()
    async with stream(standby, one) as events, stream(standby, other) as others:
        await emit(house, one, 0, 700)
        await emit(house, other, 0, 3)
        assert [each.data["phone_number"] for each in await take(events, 700)] == [f"+{each}" for each in range(700)]
        await emit(house, one, 700, 1)
        assert (await take(events, 1))[0].data["phone_number"] == "+700"
        assert [each.data["phone_number"] for each in await take(others, 3)] == ["+0", "+1", "+2"]


async def test_a_false_notice_is_no_event(
    pair: tuple[House, House], template: PostgresTemplate, tmp_path: Path
) -> None:
    house, standby = pair
    campaign = await house.campaign()
    async with stream(standby, campaign) as events:
        channel = "'dialerd_events_' || to_hex(hashtext(current_schema()))"
        for payload in ("9223372036854775807", "-1", "12 events", "", "9" * 4000):
            await asyncio.to_thread(template.sql, tmp_path, f"SELECT pg_notify({channel}, '{payload}')")
        await emit(house, campaign, 0, 2)
        told_of = await take(events, 2)
    assert [each.data["phone_number"] for each in told_of] == ["+0", "+1"]
    ahead = await standby.ask(
        "GET", f"/campaigns/{campaign}/events", headers={"Last-Event-ID": str(told_of[-1].id + 1)}
    )
    assert ahead.problem() == (400, "invalid_request")


async def test_events_of_a_daemon_that_notifies_nobody_are_found(
    template: PostgresTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of an older version does not, while its successor stands by already."""
    monkeypatch.setattr(listener, "LOOK_SECONDS", 0.1)
    async with open_house(template, tmp_path) as house, open_standby(template, tmp_path) as standby:
        campaign = await house.campaign()
        monkeypatch.setattr("dialerd.store.notices.EVENTS", "'nobody_listens'")
        async with stream(standby, campaign) as events:
            await emit(house, campaign, 0, 3)
            assert len(await take(events, 3)) == 3


async def test_a_store_of_another_version_is_not_read(
    template: PostgresTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LOOK_SECONDS", 0.1)
    url = template.url(tmp_path, fresh=True)
    template.sql(tmp_path, "UPDATE alembic_version SET version_num = '0002'")
    async with open_standby(template, tmp_path) as standby:
        answer = await standby.ask("GET", "/campaigns")
        assert answer.problem() == (503, "standby")
        assert "schema 0002" in answer.json["detail"]
        assert (await standby.ask("GET", "/~/healthz", key=None)).status == 200
        template.sql(tmp_path, f"UPDATE alembic_version SET version_num = '{REVISION}'")
        assert migrate(url) == REVISION
        assert (await standby.ask("GET", "/campaigns")).status == 200


@pytest.mark.slow
async def test_a_takeover_waits_for_no_download(template: PostgresTemplate, tmp_path: Path) -> None:
    url, port = template.url(tmp_path, fresh=True), free_port()
    holder = Lease(url, SystemClock())
    async with open_house(template, tmp_path, fresh=False) as house:
        campaign = await house.campaign("+12025550140")
    await holder.take()
    # As many as no buffer holds, and like the one that is there.
    other = "jsonb_populate_record(one, jsonb_build_object('id', n, 'phone_number', '+1303' || n))"
    template.sql(
        tmp_path, f"INSERT INTO contact SELECT ({other}).* FROM contact AS one, generate_series(1, {MANY}) AS n"
    )
    turn = a_turn(listening_at(port, url))
    async with asyncio.timeout(DEADLINE):
        entering = asyncio.ensure_future(turn.__aenter__())
        reader, writer = await connected(port)
        path = f"/api/v1/campaigns/{campaign}/results.csv"
        writer.write(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {template.keys['viewer']}\r\n\r\n".encode())
        assert (await reader.readline()).endswith(b" 200 OK\r\n")
        await holder.give_back()
        lease = await entering
        assert lease is not None
        assert lease.doubt() is None
        # The rest of the file has not been read, and could not have been sent: it is beside the daemon's start.
        assert {"standby"} == {each.get_name() for each in asyncio.all_tasks() if each.get_name() == "standby"}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        whole = await reader.read()
        assert whole.count(b"\r\n+1303") == MANY
        writer.close()
        await turn.__aexit__()
    assert connections(template, tmp_path) == "0"


def listening_at(port: int, url: str, more: str = "") -> Config:
    """The house's configuration at a port."""
    text = TOML.format(store=url) + f'[server]\nlisten = "127.0.0.1:{port}"\n' + more
    return parse(text, {}, Path("standby.toml"), Path.read_text)


def a_turn(config: Config, reread: Callable[[], Config] | None = None, signals: _Signals | None = None) -> _Turn:
    """What ``dialerd serve`` waits in."""
    manager = ServiceManager(SystemClock(), {})
    return _Turn(config, reread or (lambda: config), SystemClock(), signals or _Signals(), manager, None)


@pytest.mark.usefixtures("restored_logs")
async def test_a_standby_takes_up_a_changed_configuration(template: PostgresTemplate, tmp_path: Path) -> None:
    url, port = template.url(tmp_path, fresh=True), free_port()
    tenant = '[tenant.gone]\nmax_calls_per_second = 1\nmax_concurrent_calls = 1\ntrunks = ["spare", "third"]\n'
    trunk = '[trunk.third]\npbx = "main"\ndial = "PJSIP/{number}@c"\nmax_calls_per_second = 7\nmax_channels = 9\n'
    changed: list[Config | ConfigError] = [
        ConfigError([("tenant.gone", "is wrong")]),
        listening_at(port, url, tenant + trunk),
    ]

    def reread() -> Config:
        found = changed.pop(0)
        if isinstance(found, ConfigError):
            raise found
        return found

    signals = _Signals()
    turn = a_turn(listening_at(port, url), reread, signals)
    holder = Lease(url, SystemClock())
    await holder.take()
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        entering = asyncio.ensure_future(turn.__aenter__())
        _, writer = await connected(port)
        writer.close()

        async def trunks() -> tuple[int, list[str]]:
            headers = {"Authorization": f"Bearer {template.keys['orphan']}"}
            async with session.get(f"http://127.0.0.1:{port}/api/v1/trunks", headers=headers) as answer:
                told = await answer.json()
                return answer.status, [each["id"] for each in told.get("data", ())]

        assert await trunks() == (403, [])
        signals.reload.set()
        while len(changed) > 1:
            await SystemClock().sleep(0.02)
        assert await trunks() == (403, [])
        signals.reload.set()
        while (await trunks())[0] != 200:
            await SystemClock().sleep(0.02)
        assert await trunks() == (200, ["spare", "third"])
        assert not entering.done()
        await holder.give_back()
        assert await entering is not None
        assert [each.id for each in turn.config.tenants()] == ["one", "two", "gone"]
        await turn.__aexit__()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as soon as somebody listens, with a buffer that little fits in."""
    while True:
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
        except ConnectionRefusedError:
            own.close()
            await SystemClock().sleep(0.02)
            continue
        return await asyncio.open_connection(sock=own, limit=4096)
