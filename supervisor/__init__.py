"""Many engines, one nursery: the embedding API.

    async with open_supervisor(store=SqliteStore("journal.db")) as house:
        engine, _ = await house.spawn(NewEngine(kind="probe"))
        run, _ = await house.submit(engine.id, NewRun(input="hello"), wait_s=5)

`house` has the interface of `supervisor.house.House`; `web.client.open_remote` gives the same over HTTP.
"""

from actors.observer import Observer
from protocol.bodies import NewEngine, NewPool, NewRun, ReplyBody
from protocol.trace import Trace
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller, Filter, Frame, House, Subscription
from supervisor.open import open_supervisor
from supervisor.store.contract import Store
from supervisor.store.memory import MemoryStore
from supervisor.store.sqlite import SqliteStore

__all__ = [
    "Caller",
    "EmbeddedHouse",
    "Filter",
    "Frame",
    "House",
    "MemoryStore",
    "NewEngine",
    "NewPool",
    "NewRun",
    "Observer",
    "ReplyBody",
    "SqliteStore",
    "Store",
    "Subscription",
    "Trace",
    "open_supervisor",
]
