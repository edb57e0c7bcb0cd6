"""examples/embedded.py does what it says."""

from pathlib import Path

import pytest

from examples import embedded


async def test_the_run_survives_the_house_and_is_completed_by_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = await embedded.main(tmp_path)
    assert run.status == "completed"
    assert run.attempts == 2
    said = capsys.readouterr().out
    assert "paused at {'step': 3, 'steps': 6}, held by user:alice" in said
    assert "steps is paused, because of 'lunch'" in said
    assert "leaks: []" in said
