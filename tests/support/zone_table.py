"""Makes the table of dialerd.core.zones from libphonenumber's own: ``python -m tests.support.zone_table``.

Run it after an upgrade of phonenumbers; a test fails until then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberType
from phonenumbers.phonenumberutil import is_number_type_geographical
from phonenumbers.tzdata import TIMEZONE_DATA

import dialerd.core
from dialerd.core.zones import RESOURCE

SOURCE = f"libphonenumber (Apache License 2.0), by phonenumbers {phonenumbers.__version__}"
PLACELESS = ("premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail")


def table() -> str:
    """The resource's text. Raises ValueError for a zone that the tz database does not know."""
    known = set(files("tzdata").joinpath("zones").read_text("utf-8").split())
    starts: dict[str, list[str]] = defaultdict(list)
    several: set[str] = set()
    for start, zones in TIMEZONE_DATA.items():
        if unknown := set(zones) - known:
            # To drop it would let calls through that its clock forbids: name its successor here instead.
            raise ValueError(f"tzdata does not know {', '.join(sorted(unknown))}")
        starts[" ".join(sorted(zones))].append(start)
        if set(TIMEZONE_DATA[_country_code(start)]) != set(zones):
            several.add(_country_code(start))
    patterns = {code: pattern for code in sorted(several) if (pattern := _country_wide(int(code)))}
    data = {
        "source": SOURCE,
        "zones": {names: " ".join(sorted(starts[names])) for names in sorted(starts)},
        "country_wide": patterns,
    }
    return json.dumps(data, indent=1) + "\n"


def _country_code(start: str) -> str:
    """The country code that a number's beginning holds; country codes are prefix-free (ITU-T E.164, 6.2.1)."""
    return next(start[:length] for length in (1, 2, 3) if int(start[:length]) in COUNTRY_CODE_TO_REGION_CODE)


def _country_wide(country_code: int) -> str:
    """A pattern of the national numbers that tell no place inside their country; empty where every number tells one."""
    geographic_mobile = is_number_type_geographical(PhoneNumberType.MOBILE, country_code)
    placeless: dict[str, None] = {}
    mobile: dict[str, None] = {}
    fixed: dict[str, None] = {}
    for region in COUNTRY_CODE_TO_REGION_CODE[country_code]:
        plan = PhoneMetadata.metadata_for_region(region)
        assert plan is not None
        for kind in PLACELESS:
            numbers = getattr(plan, kind)
            if numbers is not None and numbers.national_number_pattern:
                placeless[numbers.national_number_pattern] = None
        fixed_line, mobiles = _pattern(plan.fixed_line), _pattern(plan.mobile)
        # Where one pattern serves both, a number may be a fixed line's, and lies where its area code says.
        if mobiles and mobiles != fixed_line and not geographic_mobile:
            mobile[mobiles] = None
            if fixed_line:
                fixed[fixed_line] = None
    alternatives = list(placeless)
    if mobile:
        alternatives.append(f"(?!(?:{'|'.join(fixed)})$)(?:{'|'.join(mobile)})" if fixed else "|".join(mobile))
    return "|".join(alternatives)


def _pattern(numbers: phonenumbers.PhoneNumberDesc | None) -> str | None:
    return None if numbers is None else numbers.national_number_pattern


if __name__ == "__main__":
    Path(str(files(dialerd.core).joinpath(RESOURCE))).write_text(table(), "utf-8")
