"""What daemons on one PostgreSQL database tell each other by NOTIFY: the last event of a commit, a lease given back.

A notice is a hint to look, and never more: whoever may connect to the database can send one, so that what it says is
believed only as far as the store shows it.
"""

from __future__ import annotations

# Channels are the database's, as advisory locks are: both are bound to the schema in the same way (see lease.LOCK).
_OF_SCHEMA = "to_hex(hashtext(current_schema()))"
EVENTS = f"('dialerd_events_' || {_OF_SCHEMA})"
"""The channel that commits with events are told on, as an expression of SQL."""
LEASE = f"('dialerd_lease_' || {_OF_SCHEMA})"
"""The channel that a lease which was given back is told on."""
GIVEN_BACK = "given back"

_LONGEST = 19
_LARGEST = 2**63 - 1


def last_event(payload: str) -> int | None:
    """The number of the last event that a notice tells of; None where it tells of none that there can be."""
    if not (payload.isascii() and payload.isdigit() and len(payload) <= _LONGEST):
        return None
    number = int(payload)
    return number if 0 < number <= _LARGEST else None
