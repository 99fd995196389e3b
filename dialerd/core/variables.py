"""What the PBX is told of a contact: channel variables whose names nobody outside can choose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from dialerd.core.model import Call, Contact

PREFIX = "CONTACT_"
CAMPAIGN_PREFIX = "CAMPAIGN_"
MAX_NAME = 64
"""Characters of a variable's name behind the prefix; longer ones are cut."""

_STANDARD = ("phone_number", "first_name", "last_name", "email", "company", "timezone", "external_id")
# The priority is the dialer's own affair: it is not told, and its name is kept free all the same.
_RESERVED = frozenset(PREFIX + name.upper() for name in (*_STANDARD, "priority"))


@lru_cache(maxsize=1024)
def variable_name(attribute: str) -> str:
    """Return the channel variable's name for an attribute: always ``CONTACT_`` and then ``[A-Z0-9_]``.

    Capitals without their accents; every run of other characters is one ``_``: ``SHELL(id)`` is ``CONTACT_SHELL_ID``,
    ``Größe`` ``CONTACT_GROSSE``. A name with no Latin letter or digit at all is spelled by its code points, ``город``
    as ``CONTACT_U0413_U041E_…``, so that the dialplan can still ask for it.
    """
    plain = re.sub(r"[^A-Z0-9]+", "_", _unaccented(attribute)).strip("_")
    if not plain:
        plain = "_".join(f"U{ord(char):04X}" for char in attribute.upper()[:MAX_NAME])
    return PREFIX + plain[:MAX_NAME].rstrip("_")


def contact_variables(contact: Contact) -> dict[str, str]:
    """Return the variables of a contact's channel, by their final names; empty values are left out.

    An attribute never takes the name of a standard variable, set or not. Where two attributes come to the same name,
    the first in the contact's order keeps it and the other is not told.
    """
    variables: dict[str, str] = {}
    for name in _STANDARD:
        value = getattr(contact, name)
        if value:
            variables[PREFIX + name.upper()] = value
    for attribute, value in contact.attributes.items():
        name = variable_name(attribute)
        if value and name not in _RESERVED:
            variables.setdefault(name, value)
    return variables


def channel_variables(
    call: Call, contact: Contact, campaign_variables: Mapping[str, str], *, show_id: Callable[[int], str]
) -> dict[str, str]:
    """Return all variables of a call's channel, by their final names.

    ``DIALERD_…`` names the call, ``CONTACT_…`` comes from the contact, ``CAMPAIGN_…`` from the campaign's settings:
    the prefixes keep them apart. ``show_id`` writes an id as the API shows it.
    """
    return {
        "DIALERD_CALL_ID": call.id,
        "DIALERD_CAMPAIGN_ID": show_id(call.campaign_id),
        "DIALERD_CONTACT_ID": show_id(call.contact_id),
        "DIALERD_ATTEMPT": str(call.attempt),
        **contact_variables(contact),
        **{CAMPAIGN_PREFIX + name.upper(): value for name, value in campaign_variables.items()},
    }


def _unaccented(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text.upper()) if not unicodedata.combining(char))
