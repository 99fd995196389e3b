"""What schemathesis has to be told of our media types. It loads this module by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """A text as it is; whatever else was made up, as one line of JSON."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else json.dumps(value).encode()
