"""What the daemon refuses, by the codes of the API's contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a request."""

    field: str
    message: str


class Rejected(Exception):
    """A request that the daemon refuses; it changed nothing. The API turns ``code`` into a status."""

    def __init__(self, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
