"""The request types of the SDKs at their word: a value fits or it does not, and members that they do not name do not.

Their TypedDicts hold `Iterable`, which pydantic checks only while somebody iterates; and it allows unknown members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import is_typeddict

__all__ = ["misfit"]

_HINTS: dict[Any, dict[str, Any]] = {}


def misfit(kind: Any, value: Any, where: str = "") -> str | None:
    """Where and why the value is not of this type; None: it is."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Annotated, Required, NotRequired):
        return misfit(inner[0], value, where)
    if origin in (Union, UnionType):
        found = [misfit(each, value, where) for each in inner]
        return None if None in found else max(found, key=lambda why: len(why or ""))  # the one that came furthest
    if is_typeddict(kind):
        return _members(kind, value, where)
    if origin is Literal:
        return None if value in inner else f"{where}: {value!r} is none of {inner}"
    if kind in (Any, object):
        return None
    if origin is not None and issubclass(origin, Mapping):
        return _first(value, dict, where, lambda: [(name, inner[1], each) for name, each in value.items()])
    if origin is not None and issubclass(origin, Iterable):
        return _first(value, list, where, lambda: [(number, inner[0], each) for number, each in enumerate(value)])
    plain = NoneType if kind is None else kind
    if not isinstance(plain, type) or issubclass(plain, BaseModel):
        return f"{where}: not {kind}"
    good = isinstance(value, int | float if plain is float else plain) and (plain is bool) == isinstance(value, bool)
    return None if good else f"{where}: {value!r} is no {plain.__name__}"


def _first(value: Any, shape: type, where: str, members: Any) -> str | None:
    if not isinstance(value, shape):
        return f"{where}: {value!r} is no {shape.__name__}"
    return next((why for name, kind, each in members() if (why := misfit(kind, each, f"{where}.{name}"))), None)


def _members(kind: Any, value: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where}: {value!r} is no {kind.__name__}"
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    hints = _HINTS[kind]
    unknown, missing = value.keys() - hints.keys(), kind.__required_keys__ - value.keys()
    if unknown or missing:
        return f"{where}: as {kind.__name__} has unknown {sorted(unknown)}, lacks {sorted(missing)}"
    return _first(value, dict, where, lambda: [(name, hints[name], each) for name, each in value.items()])
