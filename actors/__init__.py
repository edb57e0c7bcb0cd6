"""One engine, one mailbox, one loop: what an author of engines needs.

`Engine` is subclassed; `Context` and `RunContext` are what its callbacks are given; the errors say how a run or an
incarnation ends. How it works inside is told in `cell.py` and `loop.py`.
"""

from actors.context import Context, RunContext
from actors.engine import CannotAdopt, CannotStart, Config, Engine, Finished, RequestExpired, RunFailed, RunInput
from actors.envelope import Undelivered
from actors.ref import Ref

__all__ = [
    "CannotAdopt",
    "CannotStart",
    "Config",
    "Context",
    "Engine",
    "Finished",
    "Ref",
    "RequestExpired",
    "RunContext",
    "RunFailed",
    "RunInput",
    "Undelivered",
]
