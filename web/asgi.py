"""The three shapes of ASGI 3.0 (asgi.readthedocs.io), spelled once: every app of this package is an `App`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# Any, not the names above: frameworks type their messages as TypedDicts, each its own, and none would fit the others'.
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
