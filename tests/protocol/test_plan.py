from __future__ import annotations

from itertools import product

import pytest

from protocol.plan import AIMS, COLUMNS, PLANS, REPLIES, Column, Step, Verb, allowed, column, plan
from protocol.states import TABLE, Aim, State, Trigger

WORK = (Verb.SUBMIT, Verb.SIGNAL)
ENDING = (Verb.STOP, Verb.RESTART, Verb.DISPOSE)


def where(state: State) -> list[bool]:
    """With an actor or without: what the state can be."""
    if state is State.PAUSED:
        return [True, False]
    return [state in (State.STARTING, State.RUNNING, State.PAUSING, State.STOPPING)]


PLACES = [(state, actor) for state in State for actor in where(state)]


def test_every_verb_has_a_step_in_every_column() -> None:
    assert list(PLANS) == list(Verb)
    assert all(tuple(row) == COLUMNS for row in PLANS.values())


@pytest.mark.parametrize("verb,place", [*product(Verb, PLACES)])
def test_a_plan_is_its_cell_of_the_table(verb: Verb, place: tuple[State, bool]) -> None:
    state, actor = place
    assert plan(verb, state, actor=actor) is PLANS[verb][column(state, actor=actor)]


def test_paused_has_a_column_with_an_actor_and_one_without() -> None:
    assert column(State.PAUSED, actor=True) is Column.PAUSED_ACTOR
    assert column(State.PAUSED, actor=False) is Column.PAUSED_NONE
    assert {column(state, actor=actor) for state, actor in PLACES} == set(Column)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("held", [True, False])
def test_a_disposed_engine_refuses_everything(verb: Verb, held: bool) -> None:
    assert plan(verb, State.DISPOSED, actor=False, held=held) is Step.REFUSED


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.RESUME])
@pytest.mark.parametrize("place", PLACES)
def test_being_held_changes_the_plan_of_no_verb_but_resume(verb: Verb, place: tuple[State, bool]) -> None:
    state, actor = place
    assert plan(verb, state, actor=actor, held=True) is plan(verb, state, actor=actor)


@pytest.mark.parametrize("place", [place for place in PLACES if place[0] is not State.DISPOSED])
def test_a_resume_that_leaves_another_hold_moves_nothing(place: tuple[State, bool]) -> None:
    state, actor = place
    assert plan(Verb.RESUME, state, actor=actor, held=True) is Step.NOTED


TRIGGERS: dict[Step, set[Trigger]] = {
    Step.BOOT: {Trigger.BOOT},
    Step.BOOT_FRESH: {Trigger.BOOT},
    Step.WAKE: {Trigger.BOOT},
    Step.QUEUE_WAKE: {Trigger.BOOT},
    Step.HOLD: {Trigger.HOLD},
    Step.RELEASE: {Trigger.RELEASE},
    Step.STOP: {Trigger.STOP},
    Step.STOP_NOW: {Trigger.STOP},
    Step.ENDED: {Trigger.ENDED},
    Step.DISPOSED: {Trigger.DISPOSED},
}


@pytest.mark.parametrize("verb,place", [*product(Verb, PLACES)])
def test_what_a_plan_fires_is_legal_in_the_state_table(verb: Verb, place: tuple[State, bool]) -> None:
    state, actor = place
    for trigger in TRIGGERS.get(plan(verb, state, actor=actor), ()):
        assert trigger in TABLE[state]


@pytest.mark.parametrize("verb,place", [*product(Verb, PLACES)])
def test_a_boot_of_a_held_engine_can_park_it(verb: Verb, place: tuple[State, bool]) -> None:
    state, actor = place
    if plan(verb, state, actor=actor) in (Step.BOOT, Step.BOOT_FRESH) and state is not State.PAUSED:
        assert Trigger.PARK in TABLE[state]


RAISED = {
    (Verb.STOP, Aim.DORMANT): Step.RAISE,
    (Verb.STOP, Aim.RESTART): Step.RAISE,
    (Verb.STOP, Aim.PARKED): Step.RAISE,
    (Verb.STOP, Aim.STOPPED): Step.RAISE,
    (Verb.STOP, Aim.DISPOSED): Step.REPEAT,
    (Verb.RESTART, Aim.DORMANT): Step.RAISE,
    (Verb.RESTART, Aim.RESTART): Step.RAISE,
    (Verb.RESTART, Aim.PARKED): Step.REFUSED,
    (Verb.RESTART, Aim.STOPPED): Step.REFUSED,
    (Verb.RESTART, Aim.DISPOSED): Step.REFUSED,
    **{(Verb.DISPOSE, aim): Step.RAISE for aim in Aim},
}


@pytest.mark.parametrize("verb,aim", [*product(ENDING, Aim)])
def test_an_aim_only_rises(verb: Verb, aim: Aim) -> None:
    step = plan(verb, State.STOPPING, actor=True, aim=aim)
    assert step is RAISED[verb, aim]
    assert step is not Step.RAISE or AIMS[verb] >= aim


@pytest.mark.parametrize("verb,aim", [*product(WORK, Aim)])
def test_work_is_queued_in_a_stopping_engine_only_when_it_will_run_again(verb: Verb, aim: Aim) -> None:
    runs_again = aim in (Aim.DORMANT, Aim.RESTART, Aim.PARKED)
    assert plan(verb, State.STOPPING, actor=True, aim=aim) is (Step.QUEUE if runs_again else Step.REFUSED)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_allowed_is_what_is_not_refused(place: tuple[State, bool]) -> None:
    state, actor = place
    names = allowed(state, actor=actor)
    verbs = [verb for verb in Verb if plan(verb, state, actor=actor) is not Step.REFUSED]
    assert [name for name in names if name not in REPLIES] == [v.value for v in verbs if v is not Verb.REPLY]
    assert (Verb.REPLY in verbs) == (set(REPLIES) <= set(names))


def test_what_a_stopping_engine_allows_depends_on_its_aim() -> None:
    asleep = allowed(State.STOPPING, actor=True, aim=Aim.DORMANT)
    ended = allowed(State.STOPPING, actor=True, aim=Aim.STOPPED)
    assert set(asleep) - set(ended) == {"restart", "submit", "signal"}
    assert "start" not in asleep


def test_a_disposed_engine_allows_nothing() -> None:
    assert allowed(State.DISPOSED, actor=False) == []
