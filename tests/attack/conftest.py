"""Daemons that the attacks share: each test uses engines of its own, and leaves the daemon as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack.target import PROBES_ONLY, Target, ended, started


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon as a user has it."""
    target = started(tmp_path_factory.mktemp("attacked") / "state")
    yield target
    ended(target)


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon that can start no program, for what sends whatever comes up."""
    target = started(tmp_path_factory.mktemp("fuzzed") / "state", program=PROBES_ONLY)
    yield target
    ended(target)
