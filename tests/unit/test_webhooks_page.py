"""docs/webhooks.md: its programs check what dialerd signs, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock
from dialerd.webhooks import signing
from tests.lab.packages import require_tools

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
SECRET = signing.encode_secret(b"a secret of thirty-two bytes, no")
OTHER = signing.encode_secret(b"another secret of so many bytes!")
BODY = '{"type":"completed","data":{"company":"Müller"}}'.encode()


def program(language: str) -> str:
    """The page's program in a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def cases() -> list[tuple[bool, str, dict[str, str], bytes]]:
    """Messages, each with whether it is good."""
    now = SystemClock().wall()
    good = signing.headers([OTHER, SECRET], "evt_7", now, BODY)
    old = signing.headers([SECRET], "evt_7", now.replace(year=now.year - 1), BODY)
    return [
        (True, SECRET, good, BODY),
        (True, OTHER, good, BODY),
        (False, signing.encode_secret(b"a third secret, that of nobody."), good, BODY),
        (False, SECRET, good, BODY + b" "),
        (False, SECRET, {**good, "webhook-id": "evt_8"}, BODY),
        (False, SECRET, {**good, "webhook-signature": "v1,"}, BODY),
        (False, SECRET, old, BODY),
    ]


def test_in_python() -> None:
    names: dict[str, Any] = {}
    exec(compile(program("python"), "docs/webhooks.md", "exec"), names)
    verify: Callable[[str, dict[str, str], bytes], None] = names["verify"]
    for good, secret, headers, body in cases():
        if good:
            verify(secret, headers, body)
        else:
            with pytest.raises(ValueError, match=r"secret|old"):
                verify(secret, headers, body)


@pytest.mark.slow
def test_in_php(tmp_path: Path) -> None:
    require_tools({"php": "php-cli"})
    given = [[secret, headers, body.decode()] for _, secret, headers, body in cases()]
    script = tmp_path / "verify.php"
    script.write_text(
        f"<?php\n{program('php')}\n"
        "foreach (json_decode(stream_get_contents(STDIN), true) as [$secret, $headers, $body]) {\n"
        "    try { verify($secret, $headers, $body); echo '1'; } catch (RuntimeException $e) { echo '0'; }\n"
        "}\n"
    )
    done = subprocess.run(
        ["php", script], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "".join("1" if good else "0" for good, *_ in cases()), done.stderr
