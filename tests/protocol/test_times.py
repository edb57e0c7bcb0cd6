from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.times import epoch_ms, retry_after_s, rfc3339


def test_times_have_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_767_225_600_007) == "2026-01-01T00:00:00.007Z"


def test_times_are_whole_milliseconds_since_the_epoch() -> None:
    assert epoch_ms("1970-01-01T00:00:01.234Z") == 1234
    assert epoch_ms("2025-03-01T10:00:00.001Z") - epoch_ms("2025-03-01T10:00:00.000Z") == 1


@given(st.integers(0, 250_000_000_000_000))
def test_a_time_is_read_back_to_the_millisecond(ms: int) -> None:
    assert epoch_ms(rfc3339(ms)) == ms


def test_a_retry_after_is_seconds_or_a_date() -> None:
    now = 1_760_000_000
    assert retry_after_s("7", now) == 7
    assert retry_after_s("Thu, 09 Oct 2025 08:54:00 GMT", now) == 40
    assert retry_after_s("Thu, 09 Oct 2015 08:54:00 GMT", now) == 0
    assert [retry_after_s(text, now) for text in ("", "soon", "-1", "\u0661", "9" * 10)] == 5 * [None]
