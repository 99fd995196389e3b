"""One channel of the simulated PBX: a script played against the order's deadlines."""

from __future__ import annotations

from collections.abc import Callable

from dialerd.clock import Clock, Timer
from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault
from dialerd.pbx import causes
from dialerd.pbx.callees import Script
from dialerd.pbx.driver import Answered, CallEvent, ChannelState, Dialling, Ended, HandedOver, Originate, Ringing

TIMER_B_SECONDS = 32.0
"""How long a SIP client waits for any reply to an INVITE: 64 * T1 (RFC 3261, section 17.1.1.2)."""

_CAUSE_OF_SIP: dict[int, int] = {
    403: 21,
    404: 1,
    408: 18,
    410: 22,
    480: 19,
    484: 28,
    486: 17,
    500: 38,
    503: 34,
    600: 17,
    603: 21,
}
"""The Q.850 cause that Asterisk makes of a final SIP status."""
_NORMAL_CLEARING, _NO_ANSWER = 16, 19


class Channel:
    """A channel from the accepted order to its end. ``made`` is None until the PBX really made it."""

    def __init__(
        self,
        order: Originate,
        script: Script,
        clock: Clock,
        tell: Callable[[CallEvent], None],
        gone: Callable[[Channel, Ended | None], None],
    ) -> None:
        self.order = order
        self.state = ChannelState.DIALLING
        self.made: float | None = None
        self.answered: float | None = None
        self.handed_over = not order.hands_over
        """Somebody has the answered call; from the answer on where its place is no queue."""
        self._script = script
        self._clock = clock
        self._tell = tell
        self._gone = gone
        self._timers: list[Timer] = []
        self._hang_up_when_made = False
        self._accepted = clock.mono()

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Take a step after so many seconds, unless the channel is gone by then."""
        self._timers.append(self._clock.call_at(self._clock.mono() + seconds, step))

    def begin(self) -> None:
        """Send the INVITE."""
        self.made = self._clock.mono()
        script = self._script
        self._tell(Dialling(self.order.call_id))
        self.later(self.order.setup_seconds - (self.made - self._accepted), self._give_up)
        if script.silent:
            self.later(TIMER_B_SECONDS, lambda: self._refused(408))
        elif script.rings:
            self.later(script.post_dial, self._ring)
        elif script.sip_status is not None:
            self.later(script.post_dial, self._final)
        if self._hang_up_when_made:
            self.hang_up()

    def fail(self, reason: str, cause: int | None = None) -> None:
        """End an order of which the PBX made no channel, for this Q.850 cause where it names one."""
        verdict = causes.verdict(causes.Ending(channel=False, cause=cause))
        self._end(Ended(self.order.call_id, verdict, hangup_text=reason, channel=False))

    def hang_up(self) -> None:
        """End the call because the daemon asked for it; a channel that is not made yet ends as soon as it is."""
        if self.made is None:
            self._hang_up_when_made = True
        else:
            self._over(HungUpBy.DIALER)

    def vanish(self) -> None:
        """End without a word, as when the PBX dies."""
        self._end(None)

    def _ring(self) -> None:
        self.state = ChannelState.RINGING
        self._tell(Ringing(self.order.call_id))
        if self._script.sip_status is not None:
            self.later(self._script.ring, self._final)

    def _final(self) -> None:
        status = self._script.sip_status
        assert status is not None
        if status == 200:
            self._answer()
        else:
            self._refused(status)

    def _refused(self, status: int) -> None:
        self._over(None, _CAUSE_OF_SIP[status], status)

    def _give_up(self) -> None:
        self._over(HungUpBy.PBX, _NO_ANSWER, timed_out=True)

    def _answer(self) -> None:
        self._cancel_timers()
        self.state = ChannelState.UP
        self.answered = self._clock.mono()
        script = self._script
        self._tell(Answered(self.order.call_id))
        self.later(self.order.max_call_seconds, lambda: self._over(HungUpBy.PBX))
        if self.order.hands_over:
            self.later(script.hand_over, self._hand_over)
        if script.talk is not None:
            by = HungUpBy.CALLEE if script.callee_hangs_up else HungUpBy.PBX
            self.later(script.talk, lambda: self._over(by))

    def _hand_over(self) -> None:
        self.handed_over = True
        self._tell(HandedOver(self.order.call_id))

    def _over(
        self,
        by: HungUpBy | None,
        cause: int = _NORMAL_CLEARING,
        sip_status: int | None = None,
        timed_out: bool = False,
    ) -> None:
        ending = causes.Ending(
            answered=self.state is ChannelState.UP,
            progress=self.state is ChannelState.RINGING,
            asked=by is HungUpBy.DIALER,
            timed_out=timed_out,
            cause=cause,
            sip_status=sip_status,
        )
        verdict = causes.verdict(ending)
        if by is None and verdict.fault is Fault.CALLEE:
            by = HungUpBy.CALLEE
        text = causes.CAUSES[cause].name if cause in causes.CAUSES else "normal clearing"
        self._end(Ended(self.order.call_id, verdict, cause, text, sip_status, by))

    def _end(self, ended: Ended | None) -> None:
        self._cancel_timers()
        self._gone(self, ended)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
