from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.times import epoch_ms, rfc3339


def test_times_have_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_767_225_600_007) == "2026-01-01T00:00:00.007Z"


def test_times_are_whole_milliseconds_since_the_epoch() -> None:
    assert epoch_ms("1970-01-01T00:00:01.234Z") == 1234
    assert epoch_ms("2025-03-01T10:00:00.001Z") - epoch_ms("2025-03-01T10:00:00.000Z") == 1


@given(st.integers(0, 250_000_000_000_000))
def test_a_time_is_read_back_to_the_millisecond(ms: int) -> None:
    assert epoch_ms(rfc3339(ms)) == ms
