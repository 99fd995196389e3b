"""A carrier that wants registrations: it says nothing to Asterisk's REGISTER until it is told to grant it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.lab.lab import Lab

_MODULE = "res_pjsip_outbound_registration.so"
_COPIED = ("via:", "from:", "to:", "call-id:", "cseq:", "contact:")
_REGISTRATION = """
[registration-{endpoint}]
type = registration
endpoint = {endpoint}
line = yes
server_uri = sip:127.0.0.1:{port}
client_uri = sip:us@127.0.0.1
retry_interval = 2
"""


class Registrar:
    """Answers REGISTER with 200 as soon as it grants, and never before."""

    def __init__(self) -> None:
        self._granting = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def grant(self) -> None:
        """Answer what has come, and what comes."""
        self._granting.set()

    def close(self) -> None:
        """End it; its thread with it."""
        self._granting.set()
        with contextlib.suppress(OSError):  # not connected, says the system, and wakes the thread all the same
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, asker = self._socket.recvfrom(65536)
            if not data:
                return
            self._granting.wait()
            headers = [line for line in data.decode().split("\r\n") if line.lower().startswith(_COPIED)]
            tagged = [f"{line};tag=lab" if line.lower().startswith("to:") else line for line in headers]
            answer = ["SIP/2.0 200 OK", *tagged, "Expires: 300", "Content-Length: 0", "", ""]
            self._socket.sendto("\r\n".join(answer).encode(), asker)


@contextlib.contextmanager
def registering(lab: Lab, endpoint: str) -> Iterator[Registrar]:
    """Let an endpoint of the lab be one that registers, and whose registration is not granted yet."""
    pjsip = lab.run / "etc/pjsip.conf"
    before = pjsip.read_text()
    registrar = Registrar()
    try:
        pjsip.write_text(before + _REGISTRATION.format(endpoint=endpoint, port=registrar.port))
        lab.cli(f"module load {_MODULE}")
        yield registrar
    finally:
        pjsip.write_text(before)
        lab.cli(f"module unload {_MODULE}")
        registrar.close()
