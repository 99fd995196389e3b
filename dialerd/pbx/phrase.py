"""What a PBX says in words of its own, as one line of text that a log, a store and a page can take."""

from __future__ import annotations

import unicodedata

MOST = 200
"""Characters of a phrase; the longest that a PBX says by itself are of half that."""
NOT_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""The Unicode categories of what is no text of one line: controls, lone surrogates, separators of lines and such."""


def phrase(said: str) -> str:
    """Return it without what is no text, each of that a blank, and cut off behind :data:`MOST` characters.

    A PBX may repeat what a far end or a dialplan said, and PostgreSQL takes no text with a NUL in it.
    """
    cut = said.strip()[:MOST]
    if cut.isprintable():
        return cut
    return "".join(" " if unicodedata.category(char) in NOT_TEXT else char for char in cut).strip()
