"""What people do to campaigns: create, start, pause, resume, stop, delete. One step of the table, one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from dialerd.clock import Clock, Timer
from dialerd.core import campaign as campaign_table
from dialerd.core.campaign import FINISHED, CampaignEvent
from dialerd.core.machine import IllegalTransition, step
from dialerd.core.model import Agent, Campaign, CampaignStatus, Tenant, Trunk
from dialerd.dispatch.checks import agent_for, check_settings
from dialerd.dispatch.clearing import Clearing
from dialerd.dispatch.dispatcher import Dispatcher
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.persistence import persist
from dialerd.dispatch.requests import ImportReport, NewCampaign, Upload
from dialerd.dispatch.tasks import Spawn
from dialerd.dispatch.uploads import Uploads
from dialerd.store import agents, campaigns, contacts, removal
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)

_PATIENCE = 5.0
"""Seconds that a stop waits for its contacts to be cancelled before it answers; the rest follows."""
_AGAIN = 5.0
"""Seconds after which the store is asked again for what has to be done, whoever waits for it or does not."""

_REFUSALS: dict[CampaignEvent, dict[CampaignStatus, tuple[str, str]]] = {
    CampaignEvent.START: {
        CampaignStatus.ACTIVE: ("campaign_already_active", "the campaign is active already"),
    },
    CampaignEvent.PAUSE: dict.fromkeys(CampaignStatus, ("campaign_not_active", "only an active campaign can pause")),
    CampaignEvent.RESUME: dict.fromkeys(
        (CampaignStatus.DRAFT, CampaignStatus.ACTIVE), ("campaign_not_paused", "only a paused campaign can resume")
    ),
    CampaignEvent.STOP: {},
    CampaignEvent.EXPIRE: {},
}


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the daemon can do its work, and what keeps it from that."""

    ready: bool
    problems: tuple[str, ...]


class Control:
    """The daemon's face towards the API."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        uploads: Uploads,
        clock: Clock,
        *,
        trunks: Mapping[str, Trunk],
        background: Spawn,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._uploads = uploads
        self._clock = clock
        self._clearing = Clearing(store, clock)
        self._trunks = trunks
        self._background = background
        self._expiries: dict[int, Timer] = {}

    # -- campaigns ----------------------------------------------------------------------------------------------

    async def create(
        self, tenant: Tenant, new: NewCampaign, upload: Upload | None
    ) -> tuple[Campaign, ImportReport | None]:
        """Create a draft, with its contacts where there is an upload: both, or neither. Raises Rejected."""
        async with self._store.read() as conn:
            agent = await agent_for(conn, tenant, new.agent_id)
        check_settings(tenant, new.settings, self._trunks)
        made = Campaign(
            id=self._clock.number(),
            tenant=tenant.id,
            name=new.name,
            description=new.description,
            agent_id=agent.id,
            status=CampaignStatus.DRAFT,
            settings=new.settings,
            created_at=self._clock.wall(),
        )
        if upload is None:
            await self._store.write(lambda tx: campaigns.insert(tx, made, visible=True))
            return made, None
        await self._store.write(lambda tx: campaigns.insert(tx, made, visible=False))
        try:
            report = await self._uploads.add(made.id, tenant, upload)
        except BaseException:
            # Nobody has seen it: a campaign is there with its contacts, or not at all.
            remove = partial(self._store.write, partial(campaigns.remove, campaign_id=made.id))
            self._background(persist(self._clock, "draft", remove, campaign_id=made.id))
            raise
        # Should this fail, the hidden draft and its contacts are removed at the next start.
        await self._store.write(lambda tx: campaigns.set_visible(tx, made.id, visible=True))
        return made, report

    async def change(self, tenant: Tenant, campaign_id: int, revise: Callable[[Campaign], Campaign]) -> Campaign:
        """Change a campaign that is not finished; one that is active obeys from the next call on. Raises Rejected.

        ``revise`` makes the new campaign of the one in the store; what it raises ends the change.
        """

        async def change(tx: Tx) -> tuple[Campaign, bool]:
            found = await self._found(tx, tenant.id, campaign_id)
            if found.status in FINISHED:
                raise _finished(found)
            revised = revise(found)
            agent = await agent_for(tx.conn, tenant, revised.agent_id)
            revised = replace(revised, agent_id=agent.id)
            if revised.settings != found.settings:
                check_settings(tenant, revised.settings, self._trunks)
            await campaigns.revise(tx, revised)
            # Without keep_open it may have been done for long.
            tx.touched.add(campaign_id)
            tx.then(lambda: self._revised(revised, agent))
            return revised, found.settings.puts_off_otherwise(revised.settings)

        revised, otherwise = await self._store.write(change)
        if otherwise:
            self._background(self._recall(campaign_id))
        async with self._store.read() as conn:
            current = await campaigns.get(conn, tenant.id, campaign_id) or revised
        if current.status not in FINISHED:
            self._arm(current)
        return current

    async def cancel_contact(self, tenant_id: str, campaign_id: int, contact_id: int) -> None:
        """Cancel one pending contact. Raises Rejected."""

        async def cancel(tx: Tx) -> None:
            await self._found(tx, tenant_id, campaign_id)
            found = await contacts.get(tx.conn, campaign_id, contact_id)
            if found is None:
                raise Rejected("contact_not_found", "there is no such contact")
            if not await contacts.cancel_one(tx, contact_id, "cancelled by hand"):
                raise Rejected("contact_not_pending", f"the contact is {found.status.value}")

        await self._store.write(cancel)

    async def start(self, tenant_id: str, campaign_id: int) -> tuple[Campaign, list[str]]:
        """Let a campaign dial; the warnings say what keeps it silent now. Raises Rejected."""
        return await self._activate(tenant_id, campaign_id, CampaignEvent.START)

    async def resume(self, tenant_id: str, campaign_id: int) -> tuple[Campaign, list[str]]:
        """Let a paused campaign dial again. Raises Rejected."""
        return await self._activate(tenant_id, campaign_id, CampaignEvent.RESUME)

    async def pause(self, tenant_id: str, campaign_id: int, reason: str | None = None) -> Campaign:
        """No new calls from now on; calls in flight finish. ``reason``: why the daemon does it. Raises Rejected."""
        # The dispatcher lets go first: nothing may be sent between this commit and its hearing of it.
        return await self._leave(tenant_id, campaign_id, CampaignEvent.PAUSE, reason)

    async def stop(self, tenant_id: str, campaign_id: int, *, hangup: bool = False) -> Campaign:
        """End a campaign for good: its pending contacts are cancelled, its calls finish or are hung up.

        Answers when the pending contacts are cancelled, or after some seconds where they are very many.
        """
        stopped = await self._leave(tenant_id, campaign_id, CampaignEvent.STOP, hang_up=hangup)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._cancel_pending(campaign_id, "the campaign was stopped")
        except (TimeoutError, StoreError):
            # It is stopped all the same; only the cancelling takes longer.
            self._background(self._cancel_all(campaign_id, "the campaign was stopped"))
        return stopped

    async def delete(self, tenant_id: str, campaign_id: int) -> None:
        """Hide a campaign that is not active; calls in flight finish and keep their slots. Raises Rejected.

        Its contacts are removed after that; the next start removes those that were in flight.
        """

        async def hide(tx: Tx) -> None:
            found = await self._found(tx, tenant_id, campaign_id)
            if found.status is CampaignStatus.ACTIVE:
                raise Rejected("campaign_active", "an active campaign cannot be deleted: pause or stop it first")
            await campaigns.set_visible(tx, campaign_id, visible=False)
            tx.then(hidden)

        def hidden() -> None:
            self._dispatcher.calls.stop_campaign(campaign_id)
            self._disarm(campaign_id)
            self._background(self._clearing.remove_deleted(campaign_id))

        await self._store.write(hide)

    async def add_contacts(self, tenant: Tenant, campaign_id: int, upload: Upload) -> ImportReport:
        """Add contacts to a campaign that is not finished. Raises Rejected."""
        async with self._store.read() as conn:
            found = await campaigns.get(conn, tenant.id, campaign_id)
        if found is None:
            raise _no_campaign()
        if found.status in FINISHED:
            raise _finished(found)
        return await self._uploads.add(campaign_id, tenant, upload)

    def contacts_added(self, campaign_id: int) -> None:
        """An upload was published: its contacts may be dialled at once."""
        self._dispatcher.hopper.stir(campaign_id)
        self._dispatcher.wake()

    # -- agents -------------------------------------------------------------------------------------------------

    def agent_changed(self, agent: Agent) -> None:
        """An agent was made or changed."""
        self._dispatcher.agent_changed(agent)

    def agent_removed(self, agent_id: int) -> None:
        """An agent that no unfinished campaign uses was removed: nothing to let go of."""

    # -- the daemon's life --------------------------------------------------------------------------------------

    def health(self) -> Health:
        """What keeps the daemon from its work, if anything."""
        problems = [f"store: {self._store.failure}"] if self._store.failure is not None else []
        if self._store.lease is not None and (doubt := self._store.lease.doubt()) is not None:
            problems.append(doubt)
        problems += [gate.detail for gate in self._dispatcher.pbx_gates() if not gate.open]
        return Health(not problems, tuple(problems))

    def load(self, active: Sequence[Campaign], waiting: Sequence[Campaign], known: Mapping[int, Agent]) -> None:
        """Take up the campaigns that were active (and watch the end of those that wait) when the daemon starts."""
        for each in active:
            self._dispatcher.put(each, known.get(each.agent_id) if each.agent_id is not None else None)
        for each in (*active, *waiting):
            self._arm(each)

    async def finish_stops(self) -> None:
        """Go on with stops and removals that a restart cut short."""
        async with self._store.read() as conn:
            cut_short = await campaigns.unfinished_stops(conn)
            hidden = await removal.hidden(conn)
        for each in cut_short:
            await self._cancel_all(each.id, "the campaign has ended")
        for campaign_id in hidden:
            await self._clearing.remove_deleted(campaign_id)

    def campaign_ended(self, campaign_id: int) -> None:
        """A campaign's list is done: the store has completed it."""
        ended = self._dispatcher.remove(campaign_id)
        self._disarm(campaign_id)
        tenant = None if ended is None else ended.tenant
        log.info("campaign_changed", tenant=tenant, campaign_id=campaign_id, status=CampaignStatus.COMPLETED.value)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _activate(self, tenant_id: str, campaign_id: int, event: CampaignEvent) -> tuple[Campaign, list[str]]:
        warnings: list[str] = []

        def began(started: Campaign, agent: Agent | None) -> None:
            self._dispatcher.put(started, agent)
            # Asked before it dials: what its own calls take up then keeps nobody silent.
            warnings.extend(self._dispatcher.warnings(started, agent))

        async def change(tx: Tx) -> Campaign:
            found = await self._found(tx, tenant_id, campaign_id)
            status = _step(found, event)
            stats = (await campaigns.stats(tx.conn, [campaign_id]))[campaign_id]
            if event is CampaignEvent.START and not stats.total and not found.settings.keep_open:
                raise Rejected("no_contacts", "the campaign has no contacts to call")
            now = tx.clock.wall()
            started = replace(found, status=status, started_at=found.started_at or now, reason=None)
            await campaigns.set_status(tx, campaign_id, status, started_at=started.started_at)
            tx.emit(EventDraft(EventKind.CAMPAIGN, campaign_id, status.value, now))
            # What was left of its list may have ended while it was paused.
            tx.touched.add(campaign_id)
            agent = await _agent_of(tx, found)
            tx.then(lambda: began(started, agent))
            return started

        started = await self._store.write(change)
        log.info("campaign_changed", tenant=tenant_id, campaign_id=campaign_id, status=started.status.value)
        async with self._store.read() as conn:
            current = await campaigns.get(conn, tenant_id, campaign_id)
        if current is None or current.status is not CampaignStatus.ACTIVE:
            return current or started, []
        self._arm(current)
        return current, warnings

    async def _leave(
        self, tenant_id: str, campaign_id: int, event: CampaignEvent, why: str | None = None, *, hang_up: bool = False
    ) -> Campaign:
        """Take a campaign out of dialing: the dispatcher first, then the store; back where the store refuses."""

        def left(ended: bool) -> None:
            # A start that was committed meanwhile has put it back.
            self._dispatcher.remove(campaign_id)
            lives = self._dispatcher.calls.stop_campaign(campaign_id) if ended else []
            if hang_up:
                self._dispatcher.hang_up_all(lives)

        async def change(tx: Tx) -> Campaign:
            found = await self._found(tx, tenant_id, campaign_id)
            status = _step(found, event)
            now = tx.clock.wall()
            ended = now if status in FINISHED else None
            await campaigns.set_status(tx, campaign_id, status, completed_at=ended, reason=why, hang_up=hang_up)
            tx.emit(EventDraft(EventKind.CAMPAIGN, campaign_id, status.value, now, reason=why))
            tx.then(lambda: left(ended is not None))
            return replace(found, status=status, completed_at=ended, reason=why)

        async with self._store.read() as conn:
            before = await campaigns.get(conn, tenant_id, campaign_id)
        if before is None:
            raise _no_campaign()
        _step(before, event)
        self._dispatcher.remove(campaign_id)
        try:
            changed = await self._store.write(change)
        except BaseException:
            # Also where the client went away: whether the change stands, the store tells.
            self._background(self._take_back(before))
            raise
        log.info("campaign_changed", tenant=tenant_id, campaign_id=campaign_id, status=changed.status.value, reason=why)
        if changed.status in FINISHED:
            self._disarm(campaign_id)
        return changed

    async def _take_back(self, campaign: Campaign) -> None:
        """A change was not confirmed: a campaign that the store has as active dials on, once the store can be asked."""

        async def look(tx: Tx) -> None:
            current = await campaigns.get(tx.conn, campaign.tenant, campaign.id)
            if current is not None and current.status is CampaignStatus.ACTIVE:
                agent = await _agent_of(tx, current)
                tx.then(lambda: self._dispatcher.put(current, agent))

        while True:
            try:
                # By the writer, so that no other change comes between the look and what follows from it.
                return await self._store.write(look)
            except StoreError as error:
                log.error("campaign_not_taken_back", tenant=campaign.tenant, campaign_id=campaign.id, reason=str(error))
                await self._clock.sleep(_AGAIN)

    def _revised(self, campaign: Campaign, agent: Agent) -> None:
        """New settings stand: a campaign that dials goes by them from its next call on."""
        if self._dispatcher.is_active(campaign.id):
            self._dispatcher.put(campaign, agent)
            self._dispatcher.hopper.stir(campaign.id)

    async def _cancel_pending(self, campaign_id: int, reason: str) -> None:
        """Cancel all pending contacts in short steps. Raises StoreError."""
        await self._clearing.cancel_pending(campaign_id, reason)

    async def _cancel_all(self, campaign_id: int, reason: str) -> None:
        """The same, however long the store fails: an ended campaign keeps no pending contact."""
        await self._clearing.persist(campaign_id, lambda: self._cancel_pending(campaign_id, reason))

    async def _recall(self, campaign_id: int) -> None:
        """A rule has changed: whoever it has put off is looked at again."""
        await self._clearing.persist(campaign_id, lambda: self._clearing.recall(campaign_id))
        self._dispatcher.hopper.stir(campaign_id)
        self._dispatcher.wake()

    async def _expire(self, campaign_id: int) -> None:
        """``end_at`` has come: the campaign is completed, and what was pending is cancelled."""
        try:
            await self._expire_once(campaign_id)
        except StoreError as error:
            log.error("campaign_not_expired", campaign_id=campaign_id, reason=str(error))
            self._expire_in(campaign_id, _AGAIN)

    async def _expire_once(self, campaign_id: int) -> None:
        async with self._store.read() as conn:
            found = await campaigns.get(conn, None, campaign_id)
        if found is None or found.status in FINISHED or found.settings.end_at is None:
            return
        if self._clock.wall() < found.settings.end_at:
            self._arm(found)  # the wall clock went back, or end_at was moved
            return
        try:
            await self._leave(found.tenant, campaign_id, CampaignEvent.EXPIRE)
        except Rejected:
            return  # somebody stopped or deleted it in this very moment
        await self._cancel_all(campaign_id, "end_at has come")

    def _arm(self, campaign: Campaign) -> None:
        self._disarm(campaign.id)
        end_at = campaign.settings.end_at
        if end_at is not None:
            self._expire_in(campaign.id, max(0.0, (end_at - self._clock.wall()).total_seconds()))

    def _expire_in(self, campaign_id: int, seconds: float) -> None:
        moment = self._clock.mono() + seconds
        self._expiries[campaign_id] = self._clock.call_at(moment, lambda: self._background(self._expire(campaign_id)))

    def _disarm(self, campaign_id: int) -> None:
        timer = self._expiries.pop(campaign_id, None)
        if timer is not None:
            timer.cancel()

    async def _found(self, tx: Tx, tenant_id: str, campaign_id: int) -> Campaign:
        found = await campaigns.get(tx.conn, tenant_id, campaign_id)
        if found is None:
            raise _no_campaign()
        return found


async def _agent_of(tx: Tx, campaign: Campaign) -> Agent | None:
    return None if campaign.agent_id is None else await agents.get(tx.conn, None, campaign.agent_id)


def _step(campaign: Campaign, event: CampaignEvent) -> CampaignStatus:
    try:
        return step(campaign_table.TRANSITIONS, campaign.status, event)
    except IllegalTransition:
        refusal = _REFUSALS[event].get(campaign.status)
        raise (Rejected(*refusal) if refusal else _finished(campaign)) from None


def _finished(campaign: Campaign) -> Rejected:
    return Rejected("campaign_finished", f"the campaign is {campaign.status.value}")


def _no_campaign() -> Rejected:
    return Rejected("campaign_not_found", "there is no such campaign")
