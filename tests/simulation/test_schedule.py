"""Trio's private names still do what the explorer needs of them."""

import trio

from tests.simulation import schedule


async def _order() -> list[int]:
    seen: list[int] = []

    async def step(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(step, number)
    return seen


def test_trio_still_has_the_private_names_that_make_it_deterministic() -> None:
    assert not schedule.pinned(), "a new trio: read its _run.py and mend tests/simulation/schedule.py"


def test_a_seed_decides_the_order_of_tasks() -> None:
    orders = {seed: schedule.run(_order, seed) for seed in range(8)}
    assert all(schedule.run(_order, seed) == order for seed, order in orders.items())
    assert len({tuple(order) for order in orders.values()}) > 4


def test_time_is_virtual() -> None:
    async def day() -> float:
        began = trio.current_time()
        await trio.sleep(86_400)
        return trio.current_time() - began

    assert schedule.run(day, 0) == 86_400


def test_the_order_is_given_back_afterwards() -> None:
    before = schedule.scheduler._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001 - what the module promises to restore
    schedule.run(_order, 1)
    assert before is schedule.scheduler._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001 - the same
