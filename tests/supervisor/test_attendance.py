"""Who is watching: a request that nobody sees who may decide it is said to be unwatched."""

from contextlib import ExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority, Scope
from protocol.bodies import NewPool, NewRun
from supervisor import EmbeddedHouse
from supervisor.attendance import LOOK_S, LOOKS, Watcher
from supervisor.house import Filter
from tests.supervisor.houses import BOB, a_house, journaled, run_until, spawn
from tests.supervisor.test_approvals import NO, Deployer, deploying, pending

APPROVER = Authority(scopes=frozenset({Scope.APPROVE}))
CARLA = Watcher(principal="user:carla", authority=APPROVER)
READER = Watcher(principal="user:rob", authority=Authority(scopes=frozenset({Scope.READ, Scope.OPERATE})))


async def watched(house: EmbeddedHouse) -> bool | None:
    return (await pending(house)).watched


async def test_an_open_stream_of_somebody_who_may_decide_watches_and_a_minute_longer(
    autojump_clock: MockClock,
) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await deploying(house, "v1")
        assert await watched(house) is False
        with house.attendance.stream(READER):
            assert await watched(house) is False
        with house.attendance.stream(CARLA), house.attendance.stream(CARLA):
            await trio.sleep(10 * LOOK_S)
            assert await watched(house) is True
            assert house.attendance.statistics().streams == 2
        await trio.sleep(LOOK_S - 1)
        assert await watched(house) is True
        await trio.sleep(1)
        assert await watched(house) is False
        assert house.attendance.statistics().looked == 0


async def test_who_has_looked_watches_for_a_minute(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await deploying(house, "v1")
        house.attendance.look(CARLA)
        await trio.sleep(LOOK_S / 2)
        house.attendance.look(CARLA)
        await trio.sleep(LOOK_S - 1)
        assert await watched(house) is True
        await trio.sleep(1)
        assert await watched(house) is False
        request = await pending(house)
        await house.reply(request.id, NO, BOB)
        assert (await house.request(request.id)).watched is None


@pytest.mark.parametrize(
    "shown, sees",
    [
        ({}, True),
        ({"engine": "a"}, True),
        ({"engine": "b"}, False),
        ({"pools": ("default",)}, True),
        ({"pools": ("q",)}, False),
        ({"kinds": ("deployer",)}, True),
        ({"kinds": ("shell",)}, False),
        ({"types": ("run", "request")}, True),
        ({"types": ("request.opened",)}, True),
        ({"types": ("run",)}, False),
        ({"run": "run_other"}, False),
        ({"slices": ("plan",)}, True),
    ],
)
async def test_only_what_shows_the_request_watches_it(
    autojump_clock: MockClock, shown: dict[str, Any], sees: bool
) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await deploying(house, "v1")
        watcher = Watcher(principal="user:carla", authority=APPROVER, shown=Filter(**shown))
        with house.attendance.stream(watcher):
            assert await watched(house) is sees


async def test_who_may_not_see_the_pool_or_speaks_for_an_engine_watches_nothing(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await deploying(house, "v1")
        uid = (await pending(house)).uid
        elsewhere = Authority(scopes=frozenset({Scope.APPROVE}), pools=frozenset({"q"}))
        own = Authority(scopes=frozenset({Scope.ADMIN}), engine=uid)
        with ExitStack() as stack:
            for authority in (elsewhere, own):
                stack.enter_context(house.attendance.stream(Watcher(principal="x", authority=authority)))
            stack.enter_context(house.attendance.stream(Watcher(principal="y", kind="question")))
            assert await watched(house) is False
            stack.enter_context(house.attendance.stream(Watcher(principal="y", kind="approval")))
            assert await watched(house) is True


async def test_who_asked_is_no_second_pair_of_eyes(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await house.create_pool(NewPool(id="p", four_eyes=True))
        await deploying(house, "v1", pool="p")
        with house.attendance.stream(Watcher(principal="user:alice", authority=APPROVER)):
            assert await watched(house) is False
            with house.attendance.stream(CARLA):
                assert await watched(house) is True


async def test_an_escalation_says_whether_anybody_is_there(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", escalate_s=[10, 20])
        await trio.sleep(15)
        with house.attendance.stream(CARLA):
            await trio.sleep(15)
        rows = await journaled(house.supervisor.store, lambda row: row.type == "request.escalated")
        assert [(row.data["level"], row.data["nobody_watching"]) for row in rows] == [(1, True), (2, False)]
        assert [row.run_id for row in rows] == [run, run]


async def test_a_request_that_nobody_watches_for_a_minute_degrades_the_house(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer], threads=False) as house:
        assert (await house.health()).checks["requests"] == {
            "status": "healthy", "pending": 0, "requests_unwatched": 0,
        }  # fmt: skip
        await deploying(house, "v1")
        assert (await house.health()).checks["requests"]["status"] == "healthy"
        await trio.sleep(LOOK_S)
        checks = (await house.health()).checks
        assert checks["requests"] == {"status": "degraded", "pending": 1, "requests_unwatched": 1}
        house.attendance.look(CARLA)
        assert (await house.health()).checks["requests"]["requests_unwatched"] == 0
        await house.reply((await pending(house)).id, NO, BOB)
        assert (await house.health()).checks["requests"]["pending"] == 0


async def test_those_who_have_looked_are_remembered_up_to_a_limit(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        for n in range(LOOKS + 10):
            house.attendance.look(Watcher(principal=f"user:{n}"))
        assert house.attendance.statistics().looked == LOOKS
        await trio.sleep(LOOK_S)
        assert house.attendance.statistics().looked == 0


async def test_the_probe_says_all_that_can_be_said_of_a_request(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        ask = {"kind": "approval", "title": "?", "action": {"n": 1}, "valid_s": 5, "escalate_s": [3, 4]}
        run, _ = await house.submit("a", NewRun(input={"ask_at": 1, "ask": ask}))
        await run_until(house, run.id, "waiting")
        found = await pending(house)
        assert (found.action, found.valid_s, found.escalate_s) == ({"n": 1}, 5, [3, 4])
