"""The language of the house: values and rules, on the standard library and pydantic alone.

`states`, `plan` and `decide` are tables and pure functions over them; `fold` gives the state after a row; `commands`
and `wire` are what goes in and comes out; `errors` is the one tree of what can be answered instead.
"""

from protocol.decide import decide
from protocol.errors import EnginehouseError
from protocol.fold import fold
from protocol.plan import plan
from protocol.states import Aim, State, Trigger, next_state

__all__ = ["Aim", "EnginehouseError", "State", "Trigger", "decide", "fold", "next_state", "plan"]
