"""Whoever races for an approval, and however the house dies meanwhile: one winner, whom everybody is told of."""

import os

import pytest

from tests.simulation.races import race

RACES, BLOCK = 500, 50
TORTURE = int(os.environ.get("RACE_SEEDS", "10000"))
"""How many races `make torture` runs."""


def failed(first: int, count: int) -> str:
    found = [(seed, wrong) for seed in range(first, first + count) if (wrong := race(seed))]
    return "\n".join(f"seed {seed}: {'; '.join(wrong[:5])}" for seed, wrong in found[:5])


@pytest.mark.parametrize("first", range(0, RACES, BLOCK))
def test_each_request_is_decided_once_and_nothing_is_done_without_its_approval(first: int) -> None:
    assert not failed(first, BLOCK)


@pytest.mark.torture
@pytest.mark.parametrize("first", range(RACES, RACES + TORTURE, 500))
def test_the_same_in_many_more_races(first: int) -> None:
    assert not failed(first, 500)
