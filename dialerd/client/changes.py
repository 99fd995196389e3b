"""What a command that changes something sends: only what was given, and null or an empty list for what is cleared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click


def clearing(*options: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--clear``, which takes away what one of these options gives."""
    return click.option(
        "--clear", "cleared", multiple=True, type=click.Choice(options), help="Take this away; may be repeated."
    )


def to_change(given: Mapping[str, Any], cleared: Sequence[str]) -> dict[str, Any]:
    """The body of a PATCH: what was given by its API name, a tuple where it is a list. Raises click.UsageError."""
    body = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    body = {name: value for name, value in body.items() if value not in (None, [])}
    for option in cleared:
        name = option.replace("-", "_")
        if name in body:
            raise click.UsageError(f"{option} is given, and cleared")
        body[name] = [] if isinstance(given[name], tuple) else None
    if not body:
        raise click.UsageError("say what is to change")
    return body


def read_settings(given: Sequence[str], reserved: Sequence[str] = ()) -> dict[str, str]:
    """The values of ``--setting NAME=VALUE``, as they were typed. ``reserved`` are no settings. Raises UsageError."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--setting wants NAME=VALUE, not {each!r}")
        if name in reserved:
            raise click.UsageError(f"{name} is no setting: it has an option of its own")
        if name in found:
            raise click.UsageError(f"--setting {name} is given twice")
        found[name] = value
    return found


def settings_as_json(values: Mapping[str, str]) -> dict[str, Any]:
    """Typed settings as JSON has them; an empty one is null, which takes it away. What they may be, the daemon says.

    Raises click.UsageError for JSON that is none.
    """
    from dialerd.core.settings import LIST_SETTINGS, OBJECT_SETTINGS, CampaignSettings

    def written(name: str, text: str) -> Any:
        if not text:
            return None
        if name in LIST_SETTINGS and not text.lstrip().startswith("["):
            return [each.strip() for each in text.split(",")]
        try:
            if name in LIST_SETTINGS or name in OBJECT_SETTINGS:
                return json.loads(text)
        except ValueError:
            raise click.UsageError(f"--setting {name}: must be JSON") from None
        field = CampaignSettings.model_fields.get(name)
        if field is None or field.annotation is str:
            return text
        try:
            number = json.loads(text)
        except ValueError:
            return text
        return number if isinstance(number, int | float) else text

    return {name: written(name, text) for name, text in values.items()}
