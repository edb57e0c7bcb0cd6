"""What `logs` prints of an event."""

from typing import Any

import pytest

from web.cli.events import _log_line
from web.cli.terminal import Tame


@pytest.mark.parametrize(
    "data, line",
    [
        ({"level": "info", "text": "up", "stream": "stderr"}, "04:17:16.700  up\n"),
        ({"level": "info", "text": "", "stream": "stderr"}, "04:17:16.700\n"),
        ({"what": 1}, '04:17:16.700  {"what": 1}\n'),
    ],
)
def test_a_line_of_a_log_is_its_text_also_when_it_is_empty(
    data: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _log_line(Tame(), {"type": "log.line", "time": "2026-11-26T04:17:16.700Z", "data": data})
    assert capsys.readouterr().out == line
