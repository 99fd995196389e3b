"""Which contacts a person's search words mean."""

from __future__ import annotations

import re

import sqlalchemy as sa

from dialerd.store.schema import contact

_TEXTS = ("first_name", "last_name", "company", "email", "external_id")
_BETWEEN_DIGITS = re.compile(r"[\s().-]+")
_INTERNATIONAL = re.compile(r"\+[0-9\s().-]+")


def prefix_of(search: str) -> str | None:
    """The beginning of a number in E.164, where the search is one: ``+1 (202)`` is ``+1202``; None for other texts."""
    return _BETWEEN_DIGITS.sub("", search) if _INTERNATIONAL.fullmatch(search) else None


def matching(search: str) -> sa.ColumnElement[bool]:
    """The condition that a contact fulfils whose number, names, company, e-mail address or external id has a text."""
    plain = _BETWEEN_DIGITS.sub("", search)
    texts = [contact.c[name].icontains(search, autoescape=True) for name in _TEXTS]
    # A number as a person spells it.
    return sa.or_(*texts, contact.c.phone_number.contains(plain, autoescape=True) if plain else sa.false())
