"""A route is a small async function and the line above it; routing, scopes, validation and OpenAPI all read those
two.

    @engines.get("/engines/{engine}", Scope.READ, NotFound, EngineDisposed)
    async def get_engine(call: Call, engine: str) -> EngineInfo:
        '''One engine as it is now.'''
        return await call.house.get(engine)

Arguments that stand in the path are texts; `body` is what the request body must be (optional when it has a
default); every other one is a query parameter. The return annotation is what 200 (or `answers`) shows. Nothing is
said twice, so nothing can differ.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Final, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from protocol.errors import EnginehouseError
from web.auth import Scope
from web.params import Param
from web.reply import Reply

__all__ = ["ANYBODY", "FOUND", "NO_BODY", "Access", "Route", "Section"]

Access = Scope | Literal["anybody"] | None
ANYBODY: Final = "anybody"
FOUND: Final = (
    "enginehouse.found"  # the key in an ASGI scope under which the app leaves (a route's path, its arguments)
)
Function = Callable[..., Awaitable[Any]]
NO_BODY: Final = inspect.Parameter.empty
_IN_PATH = re.compile(r"{(\w+)}")

F = TypeVar("F", bound=Function)


class Decorator(Protocol):
    """Leaves the function as it is."""

    def __call__(self, function: F, /) -> F: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`scope`: what the principal needs (ANYBODY: any key at all; None: public, no key); `scopes`: by the body's
    `type`, where that decides. `body`: NO_BODY or a model; `out`: the model of the JSON that is shown (None: none);
    `text`: the media types that are shown instead or beside it. `raw`: runs below Quart (hot, or a stream). `urgent`:
    counted in the rate's second window, or the types of a command that are; `free`: not counted. `once`: the house
    keeps no answer for its Idempotency-Key, so it is only guarded while in flight.
    """

    method: str
    path: str
    tag: str
    function: Callable[..., Awaitable[Any]]
    scope: Access
    scopes: Mapping[str, Scope]
    errors: tuple[type[EnginehouseError], ...]
    answers: tuple[int, ...]
    raw: bool
    urgent: bool | frozenset[str]
    free: bool
    once: bool
    in_path: tuple[str, ...]
    params: Mapping[str, Param]
    body: Any
    body_default: Any
    out: Any
    text: tuple[str, ...]

    @property
    def operation(self) -> str:
        """The operation id, and Quart's endpoint."""
        return self.function.__name__


@dataclass(frozen=True, slots=True)
class Section:
    """Routes that belong together: one file, one tag in the docs. `base` stands before every path."""

    tag: str
    base: str = "/api/v1"
    routes: list[Route] = field(default_factory=list)

    def get(self, path: str, scope: Access, *errors: type[EnginehouseError], **more: Any) -> Decorator:
        return self._route("GET", path, scope, errors, **more)

    def post(self, path: str, scope: Access, *errors: type[EnginehouseError], **more: Any) -> Decorator:
        return self._route("POST", path, scope, errors, **more)

    def put(self, path: str, scope: Access, *errors: type[EnginehouseError], **more: Any) -> Decorator:
        return self._route("PUT", path, scope, errors, **more)

    def patch(self, path: str, scope: Access, *errors: type[EnginehouseError], **more: Any) -> Decorator:
        return self._route("PATCH", path, scope, errors, **more)

    def delete(self, path: str, scope: Access, *errors: type[EnginehouseError], **more: Any) -> Decorator:
        return self._route("DELETE", path, scope, errors, **more)

    def _route(
        self,
        method: str,
        path: str,
        scope: Access,
        errors: tuple[type[EnginehouseError], ...],
        *,
        answers: tuple[int, ...] = (200,),
        scopes: Mapping[str, Scope] | None = None,
        raw: bool = False,
        urgent: bool | frozenset[str] = False,
        free: bool = False,
        once: bool = False,
        text: str | tuple[str, ...] = (),
    ) -> Decorator:
        def add(function: F) -> F:
            hints = get_type_hints(function, include_extras=True)
            in_path = tuple(_IN_PATH.findall(path))
            arguments = list(inspect.signature(function).parameters.values())[1:]
            body = next((a for a in arguments if a.name == "body"), None)
            self.routes.append(
                Route(
                    method=method,
                    path=self.base + path,
                    tag=self.tag,
                    function=function,
                    scope=scope,
                    scopes=scopes or {},
                    errors=errors,
                    answers=answers,
                    raw=raw,
                    urgent=urgent,
                    free=free,
                    once=once,
                    in_path=in_path,
                    params={
                        a.name: Param(a.name, hints[a.name], a.default)
                        for a in arguments
                        if a.name not in in_path and a.name != "body"
                    },
                    body=hints["body"] if body else NO_BODY,
                    body_default=body.default if body else NO_BODY,
                    out=_shown_as_json(hints["return"]),
                    text=(text,) if isinstance(text, str) else text,
                )
            )
            return function

        return add


def _shown_as_json(returned: Any) -> Any:
    """The model in a return annotation: without `Reply`, streams and bytes."""
    if get_origin(returned) is Reply:
        (returned,) = get_args(returned)
    parts = get_args(returned) if get_origin(returned) in {types.UnionType, Union} else (returned,)
    models = [part for part in parts if part not in {bytes, type(None)} and "__call__" not in vars(part)]
    return reduce(or_, models) if models else None
