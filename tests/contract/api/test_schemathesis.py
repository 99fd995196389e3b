"""schemathesis asks the running daemon whatever its document allows, and much that it does not: every check is on."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from dialerd.api.context import Limits
from tests.contract.api.contract_table import ROWS
from tests.contract.api.house import Template, open_house

EXAMPLES = 6
"""Per operation and phase: it is the breadth of the checks that finds what a person forgot, and not their number."""
LONGEST = 240.0
"""Seconds; half a minute of a core, which others may want too."""

# So that more than a 404 is seen. What is deleted is another's, or the rest would ask for what is gone.
_KNOWN = """
[parameters]
"path.campaign_id" = "{campaign_id}"
"path.agent_id" = "{agent_id}"
"path.trunk_id" = "spare"
"path.tenant_id" = "acme"
"path.webhook_id" = "{webhook_id}"
[[operations]]
include-method = "DELETE"
parameters = {{ "path.campaign_id" = "{doomed}", "path.agent_id" = "{agent_id}", "path.webhook_id" = "{nobody}" }}
"""
# What fits the schema may still name an agent that does not exist, or a name that is taken: no schema can tell.
_MAY_REFUSE = """
[[operations]]
include-name = "{name}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "paths"),
    [("admin", "^/(campaigns|agents|dnc|keys)"), ("admin", "^/webhooks"), ("system", "^/(trunks|tenants)")],
)
async def test_the_daemon_does_what_its_document_says(template: Template, tmp_path: Path, key: str, paths: str) -> None:
    config = tmp_path / "schemathesis.toml"
    with_bodies = [f"{row.method} {row.path}" for row in ROWS if row.bodies]
    # The checks of authentication fail to log in on purpose, again and again.
    async with open_house(template, tmp_path, Limits(failed_logins_per_minute=10**9)) as house:
        agent_id = await house.agent()
        known = {name: await house.campaign("+12025550101", agent_id=agent_id) for name in ("campaign_id", "doomed")}
        tenant = {"id": "acme", "max_calls_per_second": 1, "max_concurrent_calls": 1, "trunks": ["a"]}
        assert (await house.ask("POST", "/tenants", key="system", json=tenant)).status == 201
        hook = await house.ask("POST", "/webhooks", key="admin", json={"url": "https://crm.example.com/"})
        known |= {"webhook_id": hook.json["id"], "nobody": house.nobody()}
        refusals = "".join(_MAY_REFUSE.format(name=name) for name in with_bodies)
        config.write_text(_KNOWN.format(agent_id=agent_id, **known) + refusals)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            f"{house.base}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {house.keys[key]}"),
            *("--phases", "examples,coverage,fuzzing", "--checks", "all"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none"),
            # The event stream never ends by itself.
            *("--include-path-regex", paths, "--exclude-path-regex", "/events$", "--no-color"),
            cwd=tmp_path,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.contract.api.schemathesis_hooks",
                "PYTHONPATH": os.getcwd(),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LONGEST):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode()
