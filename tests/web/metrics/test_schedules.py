"""What is told of schedules."""

from protocol.authority import Authority, Scope
from supervisor.schedules import ScheduleStatistics
from tests.web.reading import read
from web.metrics import Metrics, ScheduleFigures

FOUND = ScheduleStatistics(schedules=9, active=4, suspended=2, fired=50, skipped=6, refused=7, missed=8)


async def test_each_schedule_is_in_one_state_and_each_time_had_one_result() -> None:
    metrics = Metrics(ScheduleFigures(lambda: FOUND).collect)
    found = read((await metrics.text(Authority(scopes=frozenset({Scope.READ})), ""))[0])
    states = {state: found.value("enginehouse_schedules", state=state) for state in ("active", "suspended", "disabled")}
    assert states == {"active": 4, "suspended": 2, "disabled": 3}
    results = ("fired", "skipped", "refused", "missed")
    assert [found.value("enginehouse_schedule_times", result=result) for result in results] == [50, 6, 7, 8]


async def test_who_is_bound_to_pools_is_told_nothing_of_them() -> None:
    bound = Authority(scopes=frozenset({Scope.READ}), pools=frozenset({"a"}))
    assert read((await Metrics(ScheduleFigures(lambda: FOUND).collect).text(bound, ""))[0]).samples == ()
