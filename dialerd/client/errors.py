"""What can go wrong with a request, and the exit status that each gives."""

from __future__ import annotations

REFUSED = 1
"""The daemon answered, and refused."""
USAGE = 2
"""The command line, or the client's configuration, makes no sense."""
UNREACHABLE = 3
"""The daemon could not be reached, or broke off in the middle of its answer."""
INTERRUPTED = 130
"""Ctrl-C, as shells count it."""


class ClientError(Exception):
    """A command failed; the message is for its user."""

    exit_status = REFUSED


class Unreachable(ClientError):
    """No answer, or half of one."""

    exit_status = UNREACHABLE


class Problem(ClientError):
    """The daemon refused (RFC 9457); the message has its own words, and each field that does not fit."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP."""
        self.code = code
        """The API's stable code; empty where the answer was none of the API's."""
