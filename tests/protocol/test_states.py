from __future__ import annotations

from itertools import product

import pytest

from protocol.states import ACTOR, ANY, EVENT_OF, LIVE, NO_ACTOR, TABLE, Aim, IllegalMove, State, Trigger, next_state

CELLS = list(product(State, Trigger, [True, False]))
FIRST = State.STOPPED


def legal(state: State, trigger: Trigger, actor: bool) -> bool:
    cell = TABLE[state].get(trigger)
    return cell is not None and cell[1] in (ANY, ACTOR if actor else NO_ACTOR)


def moves(state: State) -> set[State]:
    return {to for to, _ in TABLE[state].values()}


def reachable(start: State) -> set[State]:
    found, new = {start}, {start}
    while new:
        new = {to for state in new for to in moves(state)} - found
        found |= new
    return found


@pytest.mark.parametrize("state,trigger,actor", [cell for cell in CELLS if legal(*cell)])
def test_a_legal_cell_gives_the_next_state(state: State, trigger: Trigger, actor: bool) -> None:
    assert next_state(state, trigger, actor=actor) is TABLE[state][trigger][0]


@pytest.mark.parametrize("state,trigger,actor", [cell for cell in CELLS if not legal(*cell)])
def test_an_empty_cell_raises_and_names_the_move(state: State, trigger: Trigger, actor: bool) -> None:
    with pytest.raises(IllegalMove, match=f"{trigger} is not legal in {state}"):
        next_state(state, trigger, actor=actor)


def test_every_state_has_a_row() -> None:
    assert list(TABLE) == list(State)


def test_every_trigger_moves_some_state_and_writes_one_row() -> None:
    assert {trigger for row in TABLE.values() for trigger in row} == set(Trigger) == set(EVENT_OF)


def test_every_state_is_reached_from_a_stopped_engine() -> None:
    assert reachable(FIRST) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_state_reaches_disposed(state: State) -> None:
    assert State.DISPOSED in reachable(state)


def test_nothing_leads_out_of_disposed() -> None:
    assert TABLE[State.DISPOSED] == {}


def test_no_move_leads_back_to_where_it_began() -> None:
    assert all(state not in moves(state) for state in State)


def test_a_trigger_that_names_a_state_leads_there() -> None:
    ends = {Trigger.SLEPT: State.DORMANT, Trigger.ENDED: State.STOPPED, Trigger.DISPOSED: State.DISPOSED}
    ends |= {Trigger.BOOT: State.STARTING, Trigger.PARK: State.PAUSED, Trigger.STOP: State.STOPPING}
    ends |= {Trigger.CRASHED: State.BACKING_OFF, Trigger.GAVE_UP: State.FAILED, Trigger.HOLD: State.PAUSING}
    for row in TABLE.values():
        for trigger, (to, _) in row.items():
            assert ends.get(trigger, to) is to


def test_a_live_state_never_turns_into_disposed_without_stopping_first() -> None:
    assert not [state for state in LIVE - {State.STOPPING} if Trigger.DISPOSED in TABLE[state]]


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING, State.PAUSING, State.PAUSED])
def test_an_actor_that_finished_well_stops_its_engine_wherever_it_was(state: State) -> None:
    assert next_state(state, Trigger.ENDED, actor=True) is State.STOPPED


def test_aims_rise_from_dormant_to_disposed() -> None:
    assert sorted(Aim) == [Aim.DORMANT, Aim.RESTART, Aim.PARKED, Aim.STOPPED, Aim.DISPOSED]
