"""Schedules: runs and commands at times of the day, by cron or by interval.

async with open_supervisor() as house, open_schedules(house) as schedules:
    await schedules.create(NewSchedule(cron="0 3 * * *", engine="build", run=NewRun(input="make test")))

Open them inside the house: they end first.
"""

from supervisor.schedules.schedules import MAX_SCHEDULES, Schedules, ScheduleStatistics, open_schedules
from supervisor.schedules.values import CatchUp, Firing, NewSchedule, Overlap, PatchSchedule, ScheduleInfo

__all__ = [
    "MAX_SCHEDULES",
    "CatchUp",
    "Firing",
    "NewSchedule",
    "Overlap",
    "PatchSchedule",
    "ScheduleInfo",
    "ScheduleStatistics",
    "Schedules",
    "open_schedules",
]
