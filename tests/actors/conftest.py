from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.actors.stage import OpenStage, opened


@pytest.fixture
def stage(tmp_path: Path) -> OpenStage:
    """`async with stage(Walker) as on:` opens a house that knows these kinds. pytest-trio sets a clock for those tests
    only that name it themselves, so each test names `autojump_clock` too; it begins at second 0.
    """
    return partial(opened, tmp_path)
