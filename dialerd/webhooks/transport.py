"""One POST to an endpoint: bounded in time and size, to allowed addresses only, and never following a redirect."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import aiohttp
from yarl import URL

from dialerd.webhooks.addresses import GuardedResolver, NotAllowed, Rules

_READ_BYTES = 16 * 1024
"""What is read of an answer, so that its connection can be used again; one that says more is closed."""
_READ_SECONDS = 1.0
_HEADER_BYTES = 8190
_DELAY_SECONDS = re.compile(r"\d{1,9}")
RETRY_AFTER_MOST = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint made of a message."""

    status: int | None
    """None: there was no answer."""
    error: str | None = None
    """Why it does not count as delivered, in words; None: it does."""
    retry_after: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the endpoint took it."""
        return self.error is None

    @property
    def gone(self) -> bool:
        """Whether the endpoint wants to be told nothing any more."""
        return self.status == HTTPStatus.GONE

    def pause(self, now: datetime) -> float | None:
        """Seconds for which the endpoint wants to be left alone (RFC 9110, 10.2.3), an hour at most."""
        if self.retry_after is None:
            return None
        if _DELAY_SECONDS.fullmatch(self.retry_after):
            return min(RETRY_AFTER_MOST, float(self.retry_after))
        try:
            at = parsedate_to_datetime(self.retry_after)
        except ValueError:
            return None
        if at.tzinfo is None:
            return None
        return min(RETRY_AFTER_MOST, max(0.0, (at - now).total_seconds()))


class Transport(Protocol):
    """Brings a message to an endpoint."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message and wait for the answer. Never raises for what the endpoint does."""

    async def close(self) -> None:
        """Close what is open."""


class HttpTransport:
    """The real one, over aiohttp."""

    def __init__(self, rules: Rules, timeout: float, user_agent: str, tls: ssl.SSLContext | None = None) -> None:
        self._rules = rules
        self._timeout = timeout
        self._user_agent = user_agent
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message and wait for the answer; its status decides, its body is nobody's business."""
        try:
            self._check(url)
            async with asyncio.timeout(self._timeout):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout:g} s")
        except NotAllowed as error:
            return Answer(None, str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(None, _words(error))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        session = self._open()
        async with session.post(
            URL(url, encoded=True),
            data=body,
            headers={"Content-Type": "application/json", **headers},
            allow_redirects=False,
        ) as response:
            await self._skim(response)
            if 200 <= response.status < 300:
                return Answer(response.status)
            said = f"the answer was {response.status}"
            if 300 <= response.status < 400:
                said += ", and redirects are not followed"
            return Answer(response.status, said, response.headers.get("Retry-After"))

    async def _skim(self, response: aiohttp.ClientResponse) -> None:
        """Read an answer's body to its end where it is short and comes at once; else close its connection."""
        try:
            async with asyncio.timeout(min(_READ_SECONDS, self._timeout / 4)):
                await response.content.readexactly(_READ_BYTES)
        except asyncio.IncompleteReadError:
            return  # all of it
        except (aiohttp.ClientError, TimeoutError):
            pass  # what the status said is said
        response.close()

    def _check(self, url: str) -> None:
        """A literal address is connected to without the resolver's being asked."""
        try:
            self._rules.check_url(url)
        except ValueError as error:
            raise NotAllowed(f"the URL {error}") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=GuardedResolver(self._rules),
                use_dns_cache=False,
                limit=0,  # how many run at once is bounded by those who ask
                keepalive_timeout=30.0,
                ssl=self._tls if self._tls is not None else True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent},
                auto_decompress=False,  # a small answer must not grow
                trust_env=False,
                max_line_size=_HEADER_BYTES,
                max_field_size=_HEADER_BYTES,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            )
        return self._session


def _words(error: Exception) -> str:
    """An error in words, without what the endpoint or its name server may have put in."""
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        if isinstance(inner, NotAllowed):
            return str(inner)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return "the certificate is not one to trust, or TLS failed"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return "the host's name has no address"
        return f"no connection: {inner.strerror or type(inner).__name__}"[:200]
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the certificate is not one to trust"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "the connection was closed before the answer"
    return f"the answer could not be understood ({type(error).__name__})"
