"""The planner: which calls go out now, when to ask again, and why nothing more goes out.

Pure: the snapshot says everything there is to know, and the same snapshot always gives the same plan. The rules are
asked in the order in which ``explain`` shows them: system, campaign, window, throttle, routing.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from dialerd.core import routing
from dialerd.core.contact_rules import contact_refusals
from dialerd.core.fairness import Lane, Marks
from dialerd.core.model import Contact, Moment
from dialerd.core.permit import Refusal
from dialerd.core.rules import (
    AFTER,
    HORIZON,
    block_reason,
    day_spent,
    lack_of_contacts,
    own_keys,
    routes,
    standing,
    trunk_keys,
)
from dialerd.core.snapshot import CampaignView, Deferral, Plan, PlannedCall, Reason, Snapshot
from dialerd.core.throttle import Block, Draft, Key, Level

PATIENCE = 10.0
"""Seconds after which a campaign that waits only for others' calls to end has what it needs kept for it."""


def plan(snapshot: Snapshot, now: Moment) -> Plan:
    """Decide which calls to place now. See the module's docstring."""
    return _Round(snapshot, now).run()


class _Round:
    """One run of the planner."""

    def __init__(self, snapshot: Snapshot, now: Moment) -> None:
        self._snapshot = snapshot
        self._now = now
        self._draft = Draft(snapshot.book)
        self._marks = Marks(snapshot.shares)
        self._calls: list[PlannedCall] = []
        self._deferrals: list[Deferral] = []
        self._reasons: dict[int, Reason] = {}
        self._full: dict[int, Key] = {}
        """Per campaign, the holder of which it lacks a slot."""
        self._hungry: dict[int, None] = {}
        self._wakes: list[float] = []
        self._placed: Counter[str] = Counter()
        self._probed: set[str] = set()
        """Suspended trunks that this round sends a probe over."""

    def run(self) -> Plan:
        lanes = [lane for view in self._snapshot.campaigns if (lane := self._lane(view)) is not None]
        lanes = [lane for lane in lanes if self._ready(lane)]
        lanes = self._keep_for_the_patient(lanes)
        while lanes:
            lane = self._marks.least(lanes)
            self._place(lane)
            lanes = [each for each in lanes if self._ready(each)]
        return Plan(
            tuple(self._calls),
            tuple(self._deferrals),
            min(self._wakes, default=None),
            self._reasons,
            tuple(self._hungry),
        )

    def _lane(self, view: CampaignView) -> Lane | None:
        for reason in standing(self._snapshot, view, self._now):
            if not reason.holds:
                self._stop(view, reason)
                return None
        tenant = self._snapshot.tenants[view.campaign.tenant]
        assert view.agent is not None  # standing asked
        return Lane(view, tenant, view.agent)

    def _ready(self, lane: Lane) -> bool:
        """Whether a lane can place a call now; if not, its reason is noted."""
        self._skip_closed_contacts(lane)
        view = lane.view
        self._full.pop(view.campaign.id, None)
        if view.next_due is not None and view.next_due > self._now.wall:
            self._wake_at(view.next_due)
        elif view.next_due is not None:
            self._hungry[view.campaign.id] = None
        lack = lack_of_contacts(view, lane.contact, self._now)
        if lack is not None:
            # Asked before the limits: a campaign out of contacts at hand wants more even while its slots are full.
            self._hungry[view.campaign.id] = None
            self._reasons[view.campaign.id] = lack
            return False
        spent = day_spent(self._snapshot, lane.tenant, self._now, self._placed[lane.tenant.id])
        if not spent.holds:
            self._stop(view, spent)
            return False
        for key in lane.own:
            block = self._draft.block((key,), self._now.mono + HORIZON)
            if block is not None:
                self._stop_at(view, block)
                return False
        refused: Reason | None = None
        for route in routes(self._snapshot, self._draft, view, self._now, self._probed):
            if route.reason.holds:
                lane.trunk, lane.probe = route.trunk, route.probe
                return True
            if refused is None and route.full is not None:
                self._full[view.campaign.id] = route.full
            refused = refused or route.reason
            self._wake_at(route.reason.until)
        assert refused is not None  # routes told at least why there is none
        self._stop(view, refused)
        return False

    def _keep_for_the_patient(self, lanes: list[Lane]) -> list[Lane]:
        """Serve first who waited long; and where one of them lacks a part still, keep the other parts for it.

        A campaign that needs a slot of its tenant and one of its trunk may find each free only while the other is
        not, for ever, if those who need one of them alone are always quicker. Of those who lack the same part only the
        first has something kept for it: the next slot that frees there can serve one of them alone.
        """
        kept_for: set[Key] = set()
        overdue = [
            view
            for view in self._snapshot.campaigns
            if view.waiting_since is not None and self._now.mono - view.waiting_since > PATIENCE and view.contacts
        ]
        if not overdue:
            return lanes
        for view in sorted(overdue, key=lambda each: each.waiting_since or 0.0):
            # Who was served or kept for before may have taken the last of what this one found free.
            lanes = [lane for lane in lanes if self._ready(lane)]
            lane = next((each for each in lanes if each.view is view), None)
            if lane is not None:
                self._marks.note_waiting(lanes)
                self._place(lane)
                continue
            missing = self._full.get(view.campaign.id)
            if missing is not None and missing.level is not Level.CAMPAIGN and missing not in kept_for:
                kept_for.add(missing)
                self._draft.keep(
                    key for key in self._parts(view) if key not in (missing, Key(Level.CAMPAIGN, view.campaign.id))
                )
        return [lane for lane in lanes if self._ready(lane)]

    def _parts(self, view: CampaignView) -> tuple[Key, ...]:
        """What a call of a campaign needs, by the trunk of its first choice."""
        tenant = self._snapshot.tenants[view.campaign.tenant]
        trunks = self._snapshot.trunks
        first = next((name for name in routing.choices(view.campaign, tenant) if name in trunks), None)
        return (*own_keys(view), *(() if first is None else trunk_keys(trunks[first])))

    def _skip_closed_contacts(self, lane: Lane) -> None:
        while (contact := lane.contact) is not None:
            refusal = self._refusal(lane, contact)
            if refusal is None:
                return
            self._deferrals.append(Deferral(contact, refusal.until, refusal.detail))
            lane.advance()

    def _refusal(self, lane: Lane, contact: Contact) -> Refusal | None:
        """The contact's own rule that forbids to dial it now: its hours, the tenant's prefixes, its number's caps."""
        settings, windows = lane.view.campaign.settings, self._snapshot.windows
        refusals = contact_refusals(lane.tenant, settings, contact, windows, self._now.wall)
        return next((refusal for _, refusal in refusals if refusal is not None), None)

    def _place(self, lane: Lane) -> None:
        contact, keys = lane.contact, lane.keys
        assert lane.trunk is not None
        assert contact is not None
        lane.advance()
        at = self._draft.send_at(keys, self._now.mono)
        self._draft.take(keys, at)
        self._placed[lane.tenant.id] += 1
        waiting = self._marks.serve(lane)
        caller_id = routing.caller_id(lane.view.campaign, lane.tenant, lane.trunk, contact)
        if lane.probe:
            self._probed.add(lane.trunk.id)
        self._calls.append(
            PlannedCall(
                campaign=lane.view.campaign,
                contact=contact,
                agent=lane.agent,
                tenant=lane.tenant,
                trunk=lane.trunk,
                caller_id=caller_id,
                keys=keys,
                send_at=at,
                waiting=waiting,
                probe=lane.probe,
            )
        )

    def _stop(self, view: CampaignView, reason: Reason) -> None:
        self._reasons[view.campaign.id] = reason
        self._wake_at(reason.until)

    def _stop_at(self, view: CampaignView, block: Block) -> None:
        self._reasons[view.campaign.id] = block_reason(self._snapshot.book, block, self._now)
        if block.until is None:
            self._full[view.campaign.id] = block.key
        else:
            self._wakes.append(block.until - HORIZON + AFTER)

    def _wake_at(self, moment: datetime | None) -> None:
        if moment is not None:
            self._wakes.append(self._now.mono + max(0.0, (moment - self._now.wall).total_seconds()) + AFTER)
