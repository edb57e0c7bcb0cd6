"""schemathesis against the document of a running house: every answer is one that the document names, for everybody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.attack.target import Target, in_parallel

SEED = 1
HERE = Path(__file__).parent
ROLES = ["nobody", "read", "operate", "approve", "admin"]

NOT_FUZZED = "/admin/(shutdown|drain|reload|backup)$|/auth/(logout|rotate)$"
"""What would end the house that is being fuzzed or the tokens of who fuzzes, or copy it."""


async def key_of(target: Target, role: str) -> str | None:
    await made(target)
    return None if role == "nobody" else await target.key(role)


async def made(target: Target) -> None:
    """What the hooks take to be there."""
    for engine in ("a", "b"):
        await target.ask("PUT", f"/api/v1/engines/{engine}", {"kind": "probe"})
    await target.ask("POST", "/api/v1/pools", {"id": "p", "template": {"kind": "probe"}})


def fuzz(target: Target, key: str | None, *options: str) -> str:
    """What schemathesis says. Its report names each fault with a request that shows it again."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run",
        f"http://127.0.0.1:{target.port}/openapi.json", "--no-color", "--request-timeout", "60", "--seed", str(SEED),
        "--exclude-path-regex", NOT_FUZZED, *options,
        *([] if key is None else ["--header", f"Authorization: Bearer {key}"]),
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")}
    said = subprocess.run(
        command, cwd=target.daemon.state, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    return said.stdout + said.stderr + f"\nexit {said.returncode}"


SMALL = ("--phases", "fuzzing", "--max-examples", "4", "--generation-deterministic")
LARGE = ("--phases", "coverage,fuzzing,stateful", "--max-examples", "15")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "options, requests", [(SMALL, 1500), pytest.param(LARGE, 20_000, marks=pytest.mark.torture)], ids=["small", "large"]
)
async def test_every_answer_is_one_that_the_document_names(
    fuzzed: Target, options: tuple[str, ...], requests: int
) -> None:
    """For each role and for nobody, side by side: what one of them changes, the others meet."""
    reports: dict[str, str] = {}

    async def attack(role: str) -> None:
        key = await key_of(fuzzed, role)
        reports[role] = await trio.to_thread.run_sync(fuzz, fuzzed, key, *options)
        assert reports[role].endswith("exit 0"), f"{role}:\n{reports[role]}"

    await in_parallel(len(ROLES), [partial(attack, role) for role in ROLES])
    counts = [int(found[1]) for report in reports.values() if (found := re.search(r"(\d+) generated", report))]
    print(f"schemathesis: {sum(counts)} requests, {counts}, seed {SEED}")  # noqa: T201 - the figure
    assert sum(counts) >= requests, f"the fuzzer did not do what it is there for: {counts}"
    await fuzzed.well()
