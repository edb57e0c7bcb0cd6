from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.decide import Cause, Decision, Exit, History, decide, delay_s, exceeded
from protocol.specs import Backoff, Policy, Restart
from protocol.states import Trigger

STEADY = Backoff(min_s=1, max_s=60, factor=2, jitter=0)


def crash(ran_s: float = 0.0) -> Exit:
    return Exit(Cause.CRASHED, "ValueError: no", ran_s=ran_s)


WANTED = {
    (Policy.PERMANENT, Cause.CRASHED): Trigger.CRASHED,
    (Policy.PERMANENT, Cause.FINISHED): Trigger.CRASHED,
    (Policy.PERMANENT, Cause.LOST): Trigger.CRASHED,
    (Policy.PERMANENT, Cause.UNMENDABLE): Trigger.GAVE_UP,
    (Policy.TRANSIENT, Cause.CRASHED): Trigger.CRASHED,
    (Policy.TRANSIENT, Cause.FINISHED): Trigger.ENDED,
    (Policy.TRANSIENT, Cause.LOST): Trigger.CRASHED,
    (Policy.TRANSIENT, Cause.UNMENDABLE): Trigger.GAVE_UP,
    (Policy.TEMPORARY, Cause.CRASHED): Trigger.GAVE_UP,
    (Policy.TEMPORARY, Cause.FINISHED): Trigger.ENDED,
    (Policy.TEMPORARY, Cause.LOST): Trigger.GAVE_UP,
    (Policy.TEMPORARY, Cause.UNMENDABLE): Trigger.GAVE_UP,
}


@pytest.mark.parametrize("policy,cause", WANTED)
def test_every_policy_answers_every_cause(policy: Policy, cause: Cause) -> None:
    decision = decide(Restart(policy=policy), History(), Exit(cause), 0.0)
    assert decision.trigger is WANTED[policy, cause]
    assert decision.counted == (decision.trigger is Trigger.CRASHED)


def test_a_restart_too_many_within_the_window_is_given_up() -> None:
    restart = Restart(max_restarts=2, window_s=10, backoff=STEADY)
    assert decide(restart, History((1.0,)), crash(), 5.0).trigger is Trigger.CRASHED
    assert decide(restart, History((1.0, 4.0)), crash(), 5.0).trigger is Trigger.GAVE_UP


def test_a_restart_that_left_the_window_counts_no_more() -> None:
    restart = Restart(max_restarts=2, window_s=10, backoff=STEADY)
    decision = decide(restart, History((1.0, 4.0)), crash(), 11.0)
    assert decision.trigger is Trigger.CRASHED
    assert decision.history.times == (4.0, 11.0)


def test_no_restart_is_allowed_when_the_most_is_none() -> None:
    assert decide(Restart(max_restarts=0), History(), crash(), 0.0).trigger is Trigger.GAVE_UP


def test_giving_up_takes_no_place_in_the_window() -> None:
    history = History((1.0, 2.0), 2)
    decision = decide(Restart(max_restarts=2), history, crash(), 3.0)
    assert (decision.counted, decision.history) == (False, history)


def test_a_boot_that_cannot_be_mended_leaves_the_history_alone() -> None:
    history = History((1.0,), 1)
    assert decide(Restart(), history, Exit(Cause.UNMENDABLE), 3.0) == Decision(Trigger.GAVE_UP, history=history)


def test_the_delay_doubles_with_each_restart_in_a_row_up_to_its_most() -> None:
    restart, history, now = Restart(max_restarts=99, backoff=STEADY), History(), 0.0
    delays = []
    for _ in range(8):
        decision = decide(restart, history, crash(), now)
        history, now = decision.history, now + decision.delay_s
        delays.append(decision.delay_s)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_delay_begins_again_after_a_stable_time() -> None:
    restart = Restart(max_restarts=99, backoff=STEADY, stable_s=60)
    history = History((0.0, 1.0, 3.0), 3)
    assert decide(restart, history, crash(ran_s=59.9), 70.0).delay_s == 8
    again = decide(restart, history, crash(ran_s=60.0), 70.0)
    assert (again.delay_s, again.history.streak) == (1, 1)


def test_a_backoff_without_a_first_delay_never_delays() -> None:
    assert delay_s(Backoff(min_s=0), 50, 0.99) == 0


@given(
    st.builds(
        Backoff, min_s=st.floats(0, 100), max_s=st.floats(0, 1000), factor=st.floats(1, 100), jitter=st.floats(0, 1)
    ),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_jitter_keeps_a_delay_within_its_share_and_never_below_nothing(backoff: Backoff, n: int, roll: float) -> None:
    middle = delay_s(backoff, n, 0.5)
    assert middle <= backoff.max_s
    spread = backoff.jitter * middle
    assert middle - spread - 1e-9 <= delay_s(backoff, n, roll) <= middle + spread + 1e-9
    assert delay_s(backoff, n, roll) >= 0


@given(st.integers(1, 63), st.floats(0, 1, exclude_max=True))
def test_a_delay_never_shrinks_while_restarts_go_on(n: int, roll: float) -> None:
    backoff = Backoff(min_s=0.2, max_s=30, jitter=0.2)
    assert delay_s(backoff, n, roll) <= delay_s(backoff, n + 1, roll)


crashes = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1, exclude_max=True)), max_size=40)


@given(st.integers(0, 5), st.sampled_from([0.5, 5.0, 20.0]), st.sampled_from([0.0, 1.0, 60.0]), crashes)
def test_no_window_holds_more_than_the_most_restarts(
    most: int, window_s: float, stable_s: float, story: list[tuple[float, float]]
) -> None:
    restart = Restart(max_restarts=most, window_s=window_s, stable_s=stable_s)
    history, now, restarts = History(), 0.0, []
    for ran_s, roll in story:
        now += ran_s
        decision = decide(restart, history, crash(ran_s), now, roll)
        if decision.trigger is not Trigger.CRASHED:
            assert exceeded(history.times, now, most, window_s)
            break
        restarts.append(now)
        history, now = decision.history, now + decision.delay_s
    for last in restarts:
        assert sum(1 for at in restarts if last - window_s < at <= last) <= most


@given(st.lists(st.floats(0, 100), max_size=20), st.floats(0, 100), st.integers(0, 5), st.floats(0.1, 50))
def test_a_window_counts_only_what_is_younger_than_itself(
    times: list[float], now: float, most: int, window_s: float
) -> None:
    young = [at for at in times if at > now - window_s]
    assert exceeded(times, now, most, window_s) == (len(young) >= most)


def test_history_stays_as_short_as_its_window() -> None:
    restart, history = Restart(max_restarts=5, window_s=10, backoff=Backoff(min_s=0)), History()
    for now in range(0, 1000, 3):
        history = decide(restart, history, crash(), float(now)).history
    assert len(history.times) <= 5
    assert all(b - a == 3 for a, b in pairwise(history.times))
