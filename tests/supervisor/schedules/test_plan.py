"""When a schedule is due: across changes of the clocks, after downtime, and never twice."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ValidationFailed
from supervisor.schedules.plan import CATCH_UP_MAX, Interval, Plan, due, jitter_of, plan_of
from supervisor.schedules.values import CatchUp

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def cron(expression: str, zone: str = "UTC") -> Plan:
    return plan_of(cron=expression, every_s=None, timezone=zone, anchor_ms=ms("2026-01-01"))


def times(plan: Plan, start: int, count: int, zone: str = "UTC") -> list[str]:
    """The next times as local wall clocks show them, with their offset in hours."""
    found = []
    for _ in range(count):
        start = plan.after(start)
        local = datetime.fromtimestamp(start / 1000, ZoneInfo(zone))
        offset = (local.utcoffset() or timedelta()).total_seconds() / 3600
        found.append(f"{local:%d %H:%M} {offset:+g}")
    return found


def test_a_time_in_the_hour_that_is_skipped_comes_right_after_it() -> None:
    assert times(cron("30 2 * * *", BERLIN), ms("2026-03-28T00:00", BERLIN), 3, BERLIN) == [
        "28 02:30 +1", "29 03:00 +2", "30 02:30 +2",
    ]  # fmt: skip


def test_a_time_in_the_hour_that_comes_twice_comes_once() -> None:
    plan = cron("30 2 * * *", BERLIN)
    assert times(plan, ms("2026-10-24T12:00", BERLIN), 2, BERLIN) == ["25 02:30 +2", "26 02:30 +1"]
    for again in ("2026-10-25T02:10", "2026-10-25T02:29", "2026-10-25T02:30", "2026-10-25T02:45"):
        assert times(plan, ms(again, BERLIN, fold=1), 1, BERLIN) == ["26 02:30 +1"]


def test_a_star_follows_the_time_that_passes_through_both_changes() -> None:
    hourly = cron("0 * * * *", NEW_YORK)
    assert times(hourly, ms("2026-03-08T00:30", NEW_YORK), 3, NEW_YORK) == ["08 01:00 -5", "08 03:00 -4", "08 04:00 -4"]
    assert times(hourly, ms("2026-11-01T00:30", NEW_YORK), 3, NEW_YORK) == ["01 01:00 -4", "01 01:00 -5", "01 02:00 -5"]


def test_a_change_of_half_an_hour_is_one_too() -> None:
    assert times(cron("15 2 * * *", LORD_HOWE), ms("2026-10-03T12:00", LORD_HOWE), 2, LORD_HOWE) == [
        "04 02:30 +11", "05 02:15 +11",
    ]  # fmt: skip


@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 */2 * * *", "15 1,2,3 * * *", "59 23 31 12 *", "0 0 29 2 *"]),
    st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "UTC", "Asia/Kathmandu", "Pacific/Apia"]),
    st.integers(ms("2011-12-25"), ms("2030-01-01")),
)
def test_times_only_rise(expression: str, zone: str, start: int) -> None:
    plan = cron(expression, zone)
    for _ in range(30):
        after = plan.after(start)
        assert after > start
        start = after


@given(st.integers(1000, 10**9), st.integers(0, 10**13), st.integers(0, 10**13))
def test_an_interval_keeps_its_beat(every: int, anchor: int, now: int) -> None:
    after = Interval(every, anchor).after(now)
    assert now < after <= now + every
    assert (after - anchor) % every == 0


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "@daily"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 ² 2 *"}, "cron"),
        ({"cron": "*/0 * * * *"}, "cron"),
        ({"cron": None}, "cron"),
        ({"every_s": 5.0}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": "/etc/localtime"}, "timezone"),
        ({"timezone": "Europe"}, "timezone"),
        ({"timezone": "a\0b"}, "timezone"),
    ],
)
def test_what_is_no_plan_is_told_by_its_field(wrong: dict[str, object], field: str) -> None:
    asked: dict[str, object] = {"cron": "0 3 * * *", "every_s": None, "timezone": "UTC"} | wrong
    with pytest.raises(ValidationFailed) as caught:
        plan_of(anchor_ms=0, **asked)  # type: ignore[arg-type]  # what a client may send
    assert caught.value.extra["errors"][0]["loc"] == ["body", field]  # type: ignore[index]


@given(st.lists(st.text("0123456789*/,-#LWMONJAFE?@", min_size=1, max_size=12), min_size=5, max_size=5))
def test_whatever_is_sent_as_cron_is_a_plan_or_is_refused(fields: list[str]) -> None:
    try:
        plan = plan_of(cron=" ".join(fields), every_s=None, timezone=BERLIN, anchor_ms=ms("2026-01-01"))
    except ValidationFailed:
        return
    assert plan.after(ms("2026-01-01")) > ms("2026-01-01")


@pytest.mark.parametrize(
    "name", ["tzdata.zi", "zone.tab", "leapseconds", "posixrules/", "UTC\n", "", ".", "..", "Europe/", "\udcff"]
)
def test_a_file_beside_the_zones_is_no_zone(name: str) -> None:
    with pytest.raises(ValidationFailed):
        plan_of(cron="0 3 * * *", every_s=None, timezone=name, anchor_ms=0)


# -- what is due -------------------------------------------------------------------------------------------------------
MINUTELY = Interval(60_000, 0)


def no_jitter(at: int) -> int:
    return 0


def test_nothing_is_due_before_its_time() -> None:
    assert due(MINUTELY, 60_000, 59_999, CatchUp.ALL, no_jitter) is None


@pytest.mark.parametrize(
    "policy, late, fire, missed",
    [
        (CatchUp.NONE, 0, (60_000,), 0),
        (CatchUp.NONE, 125_000, (180_000,), 2),  # the latest is on time, whatever was missed before it
        (CatchUp.ONE, 125_000, (180_000,), 2),
        (CatchUp.ALL, 125_000, (60_000, 120_000, 180_000), 0),
    ],
)
def test_what_passed_is_made_up_for_as_the_policy_says(
    policy: CatchUp, late: int, fire: tuple[int, ...], missed: int
) -> None:
    found = due(MINUTELY, 60_000, 60_000 + late, policy, no_jitter)
    assert found is not None
    assert (found.fire, found.missed) == (fire, missed)


def test_without_catching_up_what_is_late_by_more_than_a_minute_is_missed() -> None:
    daily = Interval(86_400_000, 0)
    found = due(daily, 86_400_000, 86_400_000 + 60_001, CatchUp.NONE, no_jitter)
    assert found is not None
    assert (found.fire, found.missed, found.latest) == ((), 1, 86_400_000)
    late = due(daily, 86_400_000, 86_400_000 + 60_000, CatchUp.NONE, no_jitter)
    assert late is not None
    assert late.fire == (86_400_000,)


def test_a_year_of_missed_minutes_is_bounded_and_ends_with_the_latest() -> None:
    now = 365 * 86_400_000
    found = due(MINUTELY, 60_000, now, CatchUp.ALL, no_jitter)
    assert found is not None
    assert (len(found.fire), found.latest) == (CATCH_UP_MAX, now)
    assert list(found.fire) == sorted(set(found.fire))
    assert MINUTELY.after(found.latest) > now


def test_jitter_is_the_same_at_every_look_and_below_its_bound() -> None:
    found = {jitter_of("a", at, 5000) for at in range(1000)}
    assert found <= set(range(5000))
    assert len(found) > 500
    assert jitter_of("a", 7, 5000) == jitter_of("a", 7, 5000)
    assert jitter_of("a", 7, 0) == 0
