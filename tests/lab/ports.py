"""Ports of a lab: every lab has a block of its own, so that several can run at once."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass

HOST = "127.0.0.1"
BLOCKS = 15
"""Block 0 is for ``make lab``; the tests take the others: three runners at once may hold four labs each."""

_STEP = 100
_RTP_FIRST = 10_000  # the last block ends below the ports that Linux gives out by itself (32768)
_RTP_COUNT = 1_500
_MEDIA_SHIFTS = {"trunk": 20, "trunk2": 24, "agents": 28}


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one lab, all on loopback. ``ami`` is TCP, the others are UDP."""

    ami: int
    sip: int
    trunk: int
    trunk2: int
    agents: int
    dead: int
    """Nobody listens here; the endpoint is qualified."""
    deadnq: int
    """Nobody listens here; the endpoint is not qualified, so the INVITE is really sent."""
    rtp_first: int
    rtp_last: int

    @property
    def free(self) -> bool:
        """Whether nobody listens on any of them now."""
        media = [self.media_of(name) + more for name in _MEDIA_SHIFTS for more in (0, 2)]
        udp = (self.sip, self.trunk, self.trunk2, self.agents, self.dead, self.deadnq, *media)
        return _free(socket.SOCK_STREAM, (self.ami,)) and _free(socket.SOCK_DGRAM, udp)

    def media_of(self, far_end: str) -> int:
        """The port a far end names for its media, though it sends none. SIPp takes this one and the next but one."""
        return self.sip + _MEDIA_SHIFTS[far_end]

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def block(number: int) -> Ports:
    """Name the ports of a block."""
    shift = number * _STEP
    rtp = _RTP_FIRST + number * _RTP_COUNT
    return Ports(
        ami=5038 + shift,
        sip=5060 + shift,
        trunk=5070 + shift,
        trunk2=5071 + shift,
        agents=5072 + shift,
        dead=5099 + shift,
        deadnq=5098 + shift,
        rtp_first=rtp,
        rtp_last=rtp + _RTP_COUNT - 1,
    )


def _free(kind: socket.SocketKind, ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                # As Asterisk does: connections that linger after their end do not keep the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True
