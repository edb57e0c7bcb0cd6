"""A house that is far away, through the interface of one that is embedded.

    async with open_remote("http://127.0.0.1:39731", api_key=key) as house:
        engine, _ = await house.spawn(NewEngine(kind="probe"))

`connection` sends requests and turns problems back into exceptions, `remote` is the `House` on top of it,
`subscription` is the events; `errors` and `locate` (where the house of this machine is) are light and used
by the command line before anything else is imported, so the names below are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web.client.connection import Retry
    from web.client.remote import RemoteHouse, open_remote

__all__ = ["RemoteHouse", "Retry", "open_remote"]

_HOMES = {"RemoteHouse": "web.client.remote", "Retry": "web.client.connection", "open_remote": "web.client.remote"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
