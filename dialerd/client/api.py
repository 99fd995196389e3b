"""The daemon's API over HTTP: every request has a deadline, and every refusal is told in the daemon's own words."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from dialerd import __version__
from dialerd.client.access import Access
from dialerd.client.errors import ClientError, Problem, Unreachable

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_UPLOAD_SECONDS = 900.0
"""For the answer to an upload, which comes once its last row is published."""
_READ_SECONDS = 60.0
"""Between two pieces of a long answer."""
_MOST_ERROR_LINES = 20


class Api:
    """A connection to one daemon. Use it as an async context manager."""

    def __init__(self, access: Access) -> None:
        self._base = f"{access.url}/api/v1"
        self.root = access.url
        connector = None
        if access.ca_file is not None:
            try:
                connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(access.ca_file)))
            except OSError as error:
                raise ClientError(f"{access.ca_file} cannot be used: {error}") from None
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Authorization": f"Bearer {access.key}", "User-Agent": f"dialerd/{__version__}"},
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, *path: str, query: Mapping[str, Any] | None = None, body: Any = None, data: Any = None
    ) -> Any:
        """Send a request and return its answer's JSON (None where it has none).

        ``path`` is given by its segments below /api/v1, each quoted here. ``body`` is sent as JSON, ``data`` as it is.
        Raises Problem, Unreachable.
        """
        seconds = _ANSWER_SECONDS if data is None else _UPLOAD_SECONDS
        headers = {} if data is None or isinstance(data, aiohttp.FormData) else {"Content-Type": "text/csv"}
        timeout = aiohttp.ClientTimeout(total=None if data is not None else seconds, sock_read=seconds)
        async with self.open(
            method, *path, query=query, json=body, data=data, headers=headers, timeout=timeout
        ) as answer:
            text = await answer.read()
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise Unreachable(f"{self.root} does not speak dialerd's API") from None

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        **how: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; within the block its answer, a good one, can be read. Raises Problem, Unreachable."""
        # Quoted by hand: an id of a user's typing must not become another path.
        url = URL("/".join([self._base, *(quote(part, safe="") for part in path)]), encoded=True)
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            async with self._session.request(
                method,
                url.with_query(given) if given else url,
                # A redirect would take the key somewhere else.
                allow_redirects=False,
                timeout=timeout
                or aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS),
                **how,
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise await _problem(answer)
                yield answer
        except aiohttp.ClientError as error:
            raise Unreachable(f"{self.root}: {str(error) or type(error).__name__}") from None
        except TimeoutError:
            raise Unreachable(f"{self.root}: no answer in time") from None

    async def metrics(self) -> str:
        """The daemon's metrics, which stand outside the API; empty where they are not to be had."""
        try:
            timeout = aiohttp.ClientTimeout(total=_CONNECT_SECONDS)
            async with self._session.get(f"{self.root}/metrics", timeout=timeout, allow_redirects=False) as answer:
                return await answer.text() if answer.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return ""


async def _problem(answer: aiohttp.ClientResponse) -> Problem:
    try:
        told = json.loads(await answer.read())
        code, detail = str(told["code"]), str(told["detail"])
        errors = [_error(each) for each in told.get("errors", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(answer.status, "", f"the answer was {answer.status} {answer.reason}, and none of dialerd's")
    left_out = len(errors) - _MOST_ERROR_LINES
    more = [f"  and {left_out} more"] if left_out > 0 else []
    return Problem(answer.status, code, "\n".join([f"{detail} ({code})", *errors[:_MOST_ERROR_LINES], *more]))


def _error(item: Mapping[str, Any]) -> str:
    row = f"row {item['row']}, " if item.get("row") is not None else ""
    return f"  {row}{item.get('field') or 'body'}: {item.get('message')}"
