"""The far end of a trunk: a SIPp that behaves by the last two digits of the number it is called on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Provisional = Literal["ring", "early", "trying"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the far end does with a call.

    ``first`` is its provisional answer (180, 183 with media, or a bare 100), ``wait`` the seconds from there to the
    final answer ``status`` (0: none ever, it waits for a CANCEL), and ``talk`` the seconds from the ACK to its own BYE
    (None: it holds until the caller hangs up). Nothing at all is ``first`` None with ``status`` 0.
    """

    status: int
    first: Provisional | None = None
    wait: float = 0.0
    talk: float | None = None
    headers: tuple[str, ...] = ()

    @property
    def answers(self) -> bool:
        return self.status == HTTPStatus.OK

    @property
    def silent(self) -> bool:
        return self.first is None and self.status == 0


REDIRECTED_TO = "4930999900"
"""The number a 302 sends the caller to. A call to it at a far end means that the redirect was followed."""

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "00": Behaviour(200, "ring"),
        "01": Behaviour(200, "ring", talk=1),
        "02": Behaviour(200, "ring", wait=3),
        "03": Behaviour(200, "ring", wait=3, talk=1),
        "04": Behaviour(200, "early", wait=2),
        "05": Behaviour(200, "ring", talk=6),
        "06": Behaviour(200, "ring", talk=3),
        "10": Behaviour(486),
        "11": Behaviour(404),
        "12": Behaviour(503, headers=("Retry-After: 5",)),
        "13": Behaviour(0, "ring"),
        "14": Behaviour(0, "trying"),
        "15": Behaviour(603),
        "16": Behaviour(480),
        "17": Behaviour(484),
        "18": Behaviour(480, "early", wait=1),
        "19": Behaviour(500),
        "20": Behaviour(0),
        "21": Behaviour(403),
        "22": Behaviour(600),
        "23": Behaviour(410),
        "30": Behaviour(302, headers=(f"Contact: <sip:{REDIRECTED_TO}@[local_ip]:[local_port]>",)),
    }
)
"""The last two digits of the number → the behaviour. Any other number behaves as ``00``."""

_CONTACT = "Contact: <sip:[local_ip]:[local_port];transport=[transport]>"
_REASONS = {
    200: "OK",
    302: "Moved Temporarily",
    403: "Forbidden",
    404: "Not Found",
    410: "Gone",
    480: "Temporarily Unavailable",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    500: "Server Internal Error",
    503: "Service Unavailable",
    600: "Busy Everywhere",
    603: "Decline",
}
# Longer than timer B (RFC 3261, 32 s), so that SIPp still knows the call while the INVITE is repeated.
_SILENT_MS = 40_000
# Longer than any test waits for a CANCEL.
_FOREVER_MS = 600_000
_ACK_MS = 32_000
_VERSION_SECONDS = 10.0


def behaviour_of(number: str) -> Behaviour:
    """Say how the far end treats a call to this number."""
    return BEHAVIOURS.get(number[-2:], BEHAVIOURS["00"])


def command(scenario_file: Path, port: int, media_port: int, log: Path) -> list[str]:
    """Build the command line of a far end: its messages go to ``log``, its complaints beside it."""
    return [
        *("sipp", "-sf", str(scenario_file), "-i", "127.0.0.1", "-p", str(port), "-mp", str(media_port)),
        *("-ci", "127.0.0.1"),  # its control port, which would otherwise listen on every address
        *("-nostdin", "-skip_rlimit", "-buff_size", "1048576"),
        *("-trace_msg", "-message_file", str(log), "-message_overwrite", "false"),
        *("-trace_err", "-error_file", str(log.with_suffix(".errors"))),
        # SIPp ends itself when it was starved too often; on shared cores that is no fault of the test's.
        *("-watchdog_minor_maxtriggers", "1000000", "-watchdog_major_maxtriggers", "1000000"),
    ]


def version() -> str:
    """Say which SIPp is installed."""
    said = subprocess.run(["sipp", "-v"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False).stdout
    found = re.search(r"SIPp v[^\s.]+\.[0-9.]*[0-9]", said)
    return found.group() if found else "unknown"


def scenario(everything: str | None = None) -> str:
    """Write the SIPp scenario for all behaviours; or for one that every call gets, whatever its number."""
    if everything is not None:
        return _whole("", f'<nop next="as{everything}"/>\n{_branch(everything, BEHAVIOURS[everything])}')
    known = [code for code in BEHAVIOURS if code != "00"]
    actions = "".join(
        f'<ereg regexp="{code}@" search_in="hdr" header="To:" check_it="false" assign_to="is{code}"/>\n'
        for code in known
    )
    choices = "".join(f'<nop next="as{code}" test="is{code}"/>\n' for code in known)
    branches = "".join(_branch(code, BEHAVIOURS[code]) for code in ("00", *known))
    return _whole(f"<action>\n{actions}</action>\n", choices + branches)


def _whole(actions: str, body: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<scenario name="far end by the dialled number">\n'
        '<recv request="OPTIONS" optional="true" next="qualified"/>\n'
        f'<recv request="INVITE" rrs="true">\n{actions}</recv>\n'
        f"{body}{_ENDINGS}</scenario>\n"
    )


def _branch(code: str, behaviour: Behaviour) -> str:
    steps = [f'<label id="as{code}"/>\n']
    if behaviour.silent:
        steps.append(f'<pause milliseconds="{_SILENT_MS}" next="over"/>\n')
        return "".join(steps)
    match behaviour.first:
        case "ring":
            steps.append(_response(180, "Ringing"))
        case "early":
            steps.append(_response(183, "Session Progress", media=True))
        case "trying":
            steps.append(_response(100, "Trying", tag=False))
    if behaviour.status == 0:
        steps.append(f'<recv request="CANCEL" timeout="{_FOREVER_MS}" ontimeout="over" next="cancelled"/>\n')
    else:
        if behaviour.wait:
            milliseconds = round(behaviour.wait * 1000)
            final = f"final{code}"
            steps.append(
                f'<recv request="CANCEL" timeout="{milliseconds}" ontimeout="{final}" next="cancelled"/>\n'
                f'<label id="{final}"/>\n'
            )
        steps.append(_answer(code, behaviour.talk) if behaviour.answers else _refusal(behaviour))
    return "".join(steps)


def _refusal(behaviour: Behaviour) -> str:
    reason = _REASONS[behaviour.status]
    return (
        _response(behaviour.status, reason, headers=behaviour.headers, repeat=True)
        + f'<recv request="ACK" timeout="{_ACK_MS}" ontimeout="over" next="over"/>\n'
    )


def _answer(code: str, talk: float | None) -> str:
    """Answer, wait for the ACK, talk. A CANCEL that crosses the 200 is answered: an ACK and a BYE still come."""
    acknowledged, up = f"acknowledged{code}", f"up{code}"
    steps = (
        _response(200, "OK", media=True, repeat=True)
        + f'<label id="{acknowledged}"/>\n'
        + f'<recv request="CANCEL" optional="true" next="crossed{code}"/>\n'
        + f'<recv request="ACK" next="{up}">\n<action>\n'
        + f'<ereg regexp=".*" search_in="hdr" header="To:" assign_to="we{code}"/>\n'
        + f'<ereg regexp=".*" search_in="hdr" header="From:" assign_to="they{code}"/>\n'
        + "</action>\n</recv>\n"
        + f'<label id="crossed{code}"/>\n'
        + _response(200, "OK", next_label=acknowledged)
        + f'<label id="{up}"/>\n'
    )
    if talk is None:
        return f'{steps}<Reference variables="we{code},they{code}"/>\n<recv request="BYE" next="released"/>\n'
    return (
        f'{steps}<recv request="BYE" timeout="{round(talk * 1000)}" ontimeout="release{code}" next="released"/>\n'
        f'<label id="release{code}"/>\n'
        '<send retrans="500"><![CDATA[\n'
        "BYE [next_url] SIP/2.0\n"
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "Max-Forwards: 70\n"
        f"From: [$we{code}]\n"
        f"To: [$they{code}]\n"
        "[last_Call-ID:]\n"
        "CSeq: 1 BYE\n"
        "Content-Length: 0\n\n]]></send>\n"
        # Both sides may hang up at once.
        '<recv request="BYE" optional="true" next="released"/>\n'
        f'<recv response="200" timeout="{_ACK_MS}" ontimeout="over" next="over"/>\n'
    )


def _response(
    status: int,
    reason: str,
    *,
    media: bool = False,
    repeat: bool = False,
    tag: bool = True,
    headers: tuple[str, ...] = (),
    cseq: str = "[last_CSeq:]",
    next_label: str | None = None,
) -> str:
    attributes = ' retrans="500"' if repeat else ""
    if next_label is not None:
        attributes += f' next="{next_label}"'
    lines = [
        f"SIP/2.0 {status} {reason}",
        "[last_Via:]",
        "[last_From:]",
        "[last_To:];tag=[pid]T[call_number]" if tag else "[last_To:]",
        "[last_Call-ID:]",
        cseq,
        *(headers or (_CONTACT,)),
    ]
    if not media:
        return f"<send{attributes}><![CDATA[\n{_join(lines)}Content-Length: 0\n\n]]></send>\n"
    lines += ["Content-Type: application/sdp", "Content-Length: [len]"]
    return f"<send{attributes}><![CDATA[\n{_join(lines)}\n{_SDP}]]></send>\n"


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


_SDP = (
    "v=0\n"
    "o=far 1 1 IN IP[local_ip_type] [local_ip]\n"
    "s=-\n"
    "c=IN IP[media_ip_type] [media_ip]\n"
    "t=0 0\n"
    "m=audio [media_port] RTP/AVP 0\n"
    "a=rtpmap:0 PCMU/8000\n\n"
)

_ENDINGS = (
    '<label id="released"/>\n'
    + _response(200, "OK", tag=False, next_label="over")
    + '<label id="cancelled"/>\n'
    + _response(200, "OK")
    + _response(487, _REASONS[487], repeat=True, cseq="CSeq: [last_cseq_number] INVITE")
    + f'<recv request="ACK" timeout="{_ACK_MS}" ontimeout="over" next="over"/>\n'
    + '<label id="qualified"/>\n'
    + _response(200, "OK", next_label="over")
    + '<label id="over"/>\n<nop/>\n'
)
