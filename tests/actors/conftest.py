from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.actors.stage import OpenStage, opened


@pytest.fixture
def stage(tmp_path: Path) -> OpenStage:
    """`stage(Walker)` opens a house that knows these kinds, in an `async with`.

    pytest-trio gives a clock to those tests only that name it themselves: each names `autojump_clock`, too.
    """
    return partial(opened, tmp_path)
