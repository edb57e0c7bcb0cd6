"""Real agents, as `tests/agents/package.json` names them and `make test-agents` installs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.cast import CAST, Actor
from tests.agents.table import Table


@pytest.fixture(params=CAST)
def actor(request: pytest.FixtureRequest) -> Actor:
    return CAST[request.param]


@pytest.fixture(scope="session")
def programs(root: Path) -> Path:
    """Where the agents' programs are."""
    folder = root / "build" / "agents" / "node_modules" / ".bin"
    for one in CAST.values():
        if not (folder / one.program).exists():
            pytest.fail(f"{one.program} is not installed: run `make test-agents`", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def table(root: Path) -> Iterator[Table]:
    """What worked; written into docs/agents.md when every cell of it was filled."""
    made = Table()
    yield made
    if made.full:
        made.write(root / "docs" / "agents.md")
