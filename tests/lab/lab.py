"""The lab: a real Asterisk and the far ends of its trunks, on loopback, in seconds, several at once."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dialerd.clock import SystemClock
from tests.lab import far_end
from tests.lab.ami import Ami
from tests.lab.asterisk import DIALERD_SECRET, FULL_SECRET, Asterisk
from tests.lab.ledger import FarCall, Ledger
from tests.lab.packages import SUITES, LabError, fetch, require_tools
from tests.lab.places import ASTERISK, RUNS, Place, read_place, take_place, tear_down
from tests.lab.ports import HOST, Ports, block
from tests.lab.processes import Process, spawn

SHELL = "shell"
"""The name of the lab that ``make lab`` starts: it has the usual ports and outlives its starter."""

FAR_ENDS = ("trunk", "trunk2", "agents")
_FAR_END_SECONDS = 10.0
_REACHABLE_SECONDS = 20.0
_SETTLE_SECONDS = 10.0
_LEDGER_SECONDS = 10.0
_LEDGER_PACE_SECONDS = 0.02
_STOP_SECONDS = 3.0
_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class User:
    """An AMI user of the lab."""

    name: str
    secret: str


DIALERD = User("dialerd", DIALERD_SECRET)
"""The user of asterisk-conf/, with its least rights and its event filter."""
FULL = User("dialer", FULL_SECRET)
"""All rights and all events."""


class Lab:
    """One Asterisk with its far ends. Use it as a context manager, or :meth:`up` and :meth:`down`.

    Every method that waits has a deadline and raises LabError when it passes.
    """

    host = HOST

    def __init__(self, version: str, *, name: str | None = None) -> None:
        """Choose the Asterisk ("22" or "16").

        A lab without a name ends with this process, one with a name (``SHELL``) when it is taken down.
        """
        if version not in SUITES:
            raise LabError(f"the lab has Asterisk {' and '.join(SUITES)}, not {version!r}")
        self.version = version
        self._name = name
        self._place: Place | None = None
        self._asterisk: Asterisk | None = None
        self._stopped: set[str] = set()
        self._turned: set[str] = set()
        """Far ends that treat every call alike."""

    @classmethod
    def running(cls, name: str = SHELL) -> Lab | None:
        """Find a lab that is up, started by this process or another; None where there is none."""
        place = read_place(RUNS / name)
        if place is None or not any(process.alive for process in place.processes.values()):
            return None
        lab = cls(place.version, name=name)
        lab._attach(place)
        return lab

    def _attach(self, place: Place) -> None:
        self._place = place
        self._asterisk = Asterisk(fetch(place.version), place.run, place.sockets, block(place.block))

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def ports(self) -> Ports:
        return block(self._up.block)

    @property
    def run(self) -> Path:
        """The run directory: configuration, logs and the far ends' messages."""
        return self._up.run

    def up(self) -> None:
        """Start everything and wait until the qualified trunks are reachable."""
        require_tools()
        root = fetch(self.version)
        self._place = take_place(self.version, self._name)
        try:
            self._asterisk = Asterisk(root, self._place.run, self._place.sockets, self.ports)
            self._asterisk.prepare()
            (self.run / "far_end.xml").write_text(far_end.scenario())
            for name in FAR_ENDS:
                self.start_far_end(name)
            self.start_asterisk()
            if self._name is not None:
                self._place.owner = None
                self._place.write()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop everything; logs and messages stay until the place is used again. Harmless when it is down."""
        if self._place is not None:
            tear_down(self._place)
            self._place = None

    def start_asterisk(self) -> None:
        """Start Asterisk, and wait until it takes calls and sees its trunks."""
        self._record(ASTERISK, self._pbx.start())
        self.await_reachable(FAR_ENDS)

    def kill_asterisk(self) -> None:
        """Let Asterisk die without a word, as by a power cut."""
        self._stopped.add(ASTERISK)
        self._up.processes[ASTERISK].stop(signal.SIGKILL, _STOP_SECONDS)

    def stop_asterisk(self) -> None:
        """Stop Asterisk in good order (SIGTERM)."""
        self._stopped.add(ASTERISK)
        self._pbx.stop(self._up.processes[ASTERISK])

    def restart_asterisk(self, endpoints: Sequence[str] = FAR_ENDS) -> None:
        """Run ``core restart now``, and wait until Asterisk takes calls again and sees its trunks, or those named."""
        self._pbx.restart(self._up.processes[ASTERISK])
        self.await_reachable(endpoints)

    def start_far_end(self, name: str, everything: str | None = None) -> None:
        """Start the far end of an endpoint ("trunk", "trunk2", "agents"), and wait until it answers.

        What it saw before it was stopped stays in the ledger. ``everything``: the one of ``far_end.BEHAVIOURS`` that
        every call gets, whatever its number.
        """
        scenario = self.run / "far_end.xml"
        self._turned.discard(name)
        if everything is not None:
            scenario = self.run / f"far_end_{everything}.xml"
            scenario.write_text(far_end.scenario(everything))
            self._turned.add(name)
        port = getattr(self.ports, name)
        process = spawn(
            far_end.command(scenario, port, self.ports.media_of(name), self._messages(name)),
            folder=self.run,
            output=self.run / f"log/{name}.stdout",
            environment={"HOME": str(self.run)},
        )
        self._record(name, process)
        if not _answers(port, process):
            raise LabError(
                f"the far end {name} does not answer on port {port} ({process.exit_code}):\n{self._last_words(name)}"
            )

    def turn_far_end(self, name: str, everything: str | None) -> None:
        """Let a far end treat every call alike from now on, or (None) each by its number again."""
        self.stop_far_end(name)
        self.start_far_end(name, everything)

    def stop_far_end(self, name: str) -> None:
        """Let a far end vanish: nobody listens on its port afterwards."""
        self._stopped.add(name)
        self._up.processes[name].stop(signal.SIGKILL, _STOP_SECONDS)

    def cli(self, command: str) -> str:
        """Run an Asterisk CLI command and return what it prints."""
        return self._pbx.cli(command)

    def ami(self, user: User = FULL) -> Ami:
        """Connect to the AMI and log in."""
        ami = Ami(HOST, self.ports.ami)
        try:
            ami.login(user.name, user.secret)
        except BaseException:
            ami.close()
            raise
        return ami

    def await_reachable(self, endpoints: Sequence[str]) -> None:
        """Wait until Asterisk's qualification finds these endpoints' contacts reachable."""
        waiting = set(endpoints)
        with self.ami() as ami:
            for endpoint in endpoints:
                # Asterisk's own first round comes at a random moment of the qualify interval.
                ami.action("PJSIPQualify", {"Endpoint": endpoint})
            # Logged in before it is asked: a contact that becomes reachable in between sends its event.
            waiting -= {endpoint for endpoint in endpoints if self._reachable(ami, endpoint)}
            deadline = _clock.mono() + _REACHABLE_SECONDS
            while waiting:
                try:
                    event = ami.next_event(("ContactStatus",), deadline - _clock.mono())
                except LabError:
                    raise LabError(f"not reachable after {_REACHABLE_SECONDS:.0f} s: {sorted(waiting)}") from None
                if event["ContactStatus"] == "Reachable":
                    waiting.discard(event["EndpointName"])

    @staticmethod
    def _reachable(ami: Ami, endpoint: str) -> bool:
        told = ami.listing("PJSIPShowEndpoint", {"Endpoint": endpoint}, "ContactStatusDetail", "EndpointDetailComplete")
        return any(detail["Status"] == "Reachable" for detail in told)

    def settle(self) -> None:
        """Make the lab as good as new after a test: what was stopped runs again, and no channel lives.

        LabError, after all is put right, where something had died that nobody stopped: the test's result is void.
        """
        died = [
            f"{name} died ({process.exit_code}): {self._last_words(name)}"
            for name, process in self.processes.items()
            if not process.alive and name not in self._stopped
        ]
        self._revive()
        self._hang_up_all()
        self.await_reachable(FAR_ENDS)
        if died:
            raise LabError("\n".join(died))

    def _revive(self) -> None:
        for name in FAR_ENDS:
            if name in self._turned:
                self.stop_far_end(name)
            if not self._up.processes[name].alive:
                self.start_far_end(name)
        if not self._up.processes[ASTERISK].alive:
            self.start_asterisk()

    def _hang_up_all(self) -> None:
        with self.ami() as ami:
            # Heard from here on: a channel that ends while we count still sends its Hangup.
            live = ami.listing("CoreShowChannels", {}, "CoreShowChannel", "CoreShowChannelsComplete")
            waiting = {channel["Uniqueid"] for channel in live}
            if waiting:
                self.cli("channel request hangup all")
            deadline = _clock.mono() + _SETTLE_SECONDS
            gone = {event["Uniqueid"] for event in ami.events if event["Event"] == "Hangup"}
            while waiting - gone:
                gone.add(ami.next_event(("Hangup",), deadline - _clock.mono())["Uniqueid"])

    def ledger(self, *names: str) -> Ledger:
        """Read what the far ends saw so far; all of them, or only the named ones."""
        calls: list[FarCall] = []
        for name in names or FAR_ENDS:
            calls.extend(Ledger.read(self._messages(name), far_end=name).calls)
        return Ledger(calls)

    def ledger_when(self, wanted: Callable[[Ledger], bool], *names: str, seconds: float = _LEDGER_SECONDS) -> Ledger:
        """Read the ledger as soon as it is as wanted: Asterisk tells of a hangup before the BYE is out."""
        deadline = _clock.mono() + seconds
        first = (names or FAR_ENDS)[0]
        pacer = self._up.processes[first]
        while not wanted(ledger := self.ledger(*names)):
            if _clock.mono() > deadline:
                raise LabError(f"the ledger is not as wanted after {seconds:.0f} s: {list(ledger)[-5:]}")
            if pacer.ended_within(_LEDGER_PACE_SECONDS):
                raise LabError(f"the far end {first} died ({pacer.exit_code}):\n{self._last_words(first)}")
        return ledger

    def versions(self) -> dict[str, str]:
        """Say which Asterisk and which SIPp are at work."""
        return {"Asterisk": self.cli("core show version").split(" built")[0].strip(), "SIPp": far_end.version()}

    @property
    def processes(self) -> dict[str, Process]:
        """The lab's processes by name."""
        return dict(self._up.processes)

    @property
    def _up(self) -> Place:
        if self._place is None:
            raise LabError("the lab is not up")
        return self._place

    @property
    def _pbx(self) -> Asterisk:
        if self._asterisk is None:
            raise LabError("the lab is not up")
        return self._asterisk

    def _messages(self, name: str) -> Path:
        return self.run / f"log/{name}.messages"

    def _last_words(self, name: str) -> str:
        logs = [self.run / f"log/{name}.{kind}" for kind in ("stdout", "errors")]
        words = [log.read_text(errors="replace")[-1000:] for log in logs if log.exists()]
        return "\n".join(words) or "it left no word"

    def _record(self, name: str, process: Process) -> None:
        self._stopped.discard(name)
        self._up.processes[name] = process
        self._up.write()


def _answers(port: int, process: Process) -> bool:
    """Ask a far end by OPTIONS until it answers, as a trunk's qualification does."""
    deadline = _clock.mono() + _FAR_END_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        probe.connect((HOST, port))
        mine = probe.getsockname()[1]
        request = (
            f"OPTIONS sip:ping@{HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{mine};branch=z9hG4bK{mine}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:lab@{HOST}>;tag=lab\r\nTo: <sip:ping@{HOST}:{port}>\r\n"
            f"Call-ID: ping-{mine}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        probe.settimeout(0.1)
        while _clock.mono() < deadline:
            try:
                probe.send(request)
                if probe.recv(4096).startswith(b"SIP/2.0 200"):
                    return True
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                # Not listening yet: a moment later it does, or it is dead.
                if process.ended_within(0.05):
                    break
    return False
