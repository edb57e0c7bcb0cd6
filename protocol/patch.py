"""How a slice's changes travel: JSON Patch (RFC 6902), type-strict, with keyframes like video.

Python says that `False == 0`, `1 == 1.0` and `0.0 == -0.0`; on the wire those are different bytes, so here they are
different values. A value is what `json.loads` gives (None, bool, int, float, str, list, dict with str keys), at most
255 deep, which is all that can be encoded; anything else counts as different from everything but itself.

Values are never changed in place: a result shares with its inputs whatever did not change, so an update costs what it
changes, and `diff` skips the rest by identity. What is changed in place after it was given here, `diff` cannot see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import copysign
from typing import Any, TypeAlias

from pydantic import TypeAdapter

__all__ = ["Json", "Op", "PatchError", "apply", "diff", "same", "size_bytes", "step"]

Json: TypeAlias = Any  # a recursive alias over list and dict is invariant: every caller would have to cast
Op: TypeAlias = dict[str, Json]  # {op, path, value?, from?}

_SURE = frozenset({type(None), bool, int, str})  # where Python's `==` between two of one type is JSON's
_NUMBERS = frozenset({int, float})
_ABSENT = object()
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_BAD_ESCAPE = re.compile(r"~(?![01])")
_JSON: TypeAdapter[Json] = TypeAdapter(Json)


class PatchError(ValueError):
    """The patch is malformed, or does not fit the value; nothing was changed."""


def same(a: Json, b: Json) -> bool:
    """Whether two values are the same JSON, down to the type of each number; the order of members does not count."""
    return _equal(a, b, strict=True)


def diff(old: Json, new: Json) -> list[Op]:
    """The `add`, `remove` and `replace` operations that make `new` of `old`, in an order that is always the same.

    Costs one walk over both, less what they share. Values in the patch are parts of `new`, not copies.
    """
    patch: list[Op] = []
    _walk(old, new, [], patch)
    return patch


def step(old: Json, new: Json, since_keyframe_bytes: int | None) -> tuple[list[Op], bool]:
    """The patch to journal for one change of a slice, and whether it is a keyframe: one `replace` of the whole value.

    `since_keyframe_bytes`: `size_bytes` of the patches since the last keyframe, added up; None when there was none yet
    (version 1, `old` is not looked at). A keyframe is given then, when the patch is longer than the value, and when the
    patches since the last one, this included, would be: so replaying a slice reads at most twice its size. It is
    `([], False)` when nothing changed. Raises ValueError when a change has no form as JSON.
    """
    if since_keyframe_bytes is not None:
        patch = diff(old, new)
        if not patch or since_keyframe_bytes + size_bytes(patch) <= size_bytes(new):
            return patch, False
    return [{"op": "replace", "path": "", "value": new}], True


def size_bytes(value: Json) -> int:
    """The length of a value, or of a patch, as compact UTF-8 JSON. Raises ValueError when it has no such form."""
    return len(_JSON.dump_json(value))


def apply(value: Json, patch: Sequence[Mapping[str, Json]]) -> Json:
    """The value after all operations of RFC 6902, section 4, in order; `value` and `patch` stay as they are.

    Raises PatchError when any of them fails, and then there is no result at all.
    """
    document = _Document(value)
    for op in patch:
        verb = _member(op, "op")
        path = _tokens(_member(op, "path"))
        match verb:
            case "add":
                document.add(path, _member(op, "value"))
            case "remove":
                document.remove(path)
            case "replace":
                document.replace(path, _member(op, "value"))
            case "move":
                document.move(_tokens(_member(op, "from")), path)
            case "copy":
                document.copy(_tokens(_member(op, "from")), path)
            case "test":
                document.test(path, _member(op, "value"))
            case _:
                raise PatchError(f"there is no operation {verb!r}")
    return document.root


class _Document:
    """A value under change: a container is copied before its first change, and once only.

    `_ours` holds the containers made here by their id, and keeps them alive so that no id is used twice. `copy` makes
    one container stand in two places, so from then on none is ours alone.
    """

    __slots__ = ("_ours", "root")

    def __init__(self, root: Json) -> None:
        self.root = root
        self._ours: dict[int, Json] = {}

    def get(self, path: list[str]) -> Json:
        value = self.root
        for token in path:
            value = value[_place(value, token)]
        return value

    def add(self, path: list[str], value: Json) -> None:
        if not path:
            self.root = value
            return
        parent, name = self._own(path[:-1]), path[-1]
        if type(parent) is list:
            parent.insert(len(parent) if name == "-" else _index(name, len(parent) + 1), value)
        elif type(parent) is dict:
            parent[name] = value
        else:
            raise PatchError(f"{_pointer(path[:-1])!r} is neither object nor array")

    def remove(self, path: list[str]) -> None:
        if not path:
            raise PatchError("the whole value cannot be removed")
        parent = self._own(path[:-1])
        del parent[_place(parent, path[-1])]

    def replace(self, path: list[str], value: Json) -> None:
        if not path:
            self.root = value
            return
        parent = self._own(path[:-1])
        parent[_place(parent, path[-1])] = value

    def move(self, source: list[str], path: list[str]) -> None:
        value = self.get(source)
        if source == path:
            return
        if path[: len(source)] == source:
            raise PatchError("a value cannot be moved into itself")
        self.remove(source)
        self.add(path, value)

    def copy(self, source: list[str], path: list[str]) -> None:
        value = self.get(source)
        self._ours.clear()
        self.add(path, value)

    def test(self, path: list[str], value: Json) -> None:
        if not _equal(self.get(path), value, strict=False):
            raise PatchError(f"the value at {_pointer(path)!r} is another one")

    def _own(self, path: list[str]) -> Json:
        """The container at `path`, which may be changed; so may all above it."""
        self.root = container = self._fresh(self.root)
        for token in path:
            place = _place(container, token)
            container[place] = container = self._fresh(container[place])
        return container

    def _fresh(self, value: Json) -> Json:
        if id(value) in self._ours or type(value) not in (dict, list):
            return value
        made = value.copy()
        self._ours[id(made)] = made
        return made


# Both walks below settle scalars in place before they call `_walk`: of a large state, that line is nearly all the work.
# `path` is where the walk stands, one list for all of it; pointers are only written for what differs.


def _walk(old: Json, new: Json, path: list[str | int], patch: list[Op]) -> None:
    kind = type(new)
    if kind is not type(old):
        patch.append({"op": "replace", "path": _pointer(path), "value": new})
    elif kind is dict:
        _walk_members(old, new, path, patch)
    elif kind is list:
        _walk_items(old, new, path, patch)
    elif not _equal(old, new, strict=True):
        patch.append({"op": "replace", "path": _pointer(path), "value": new})


def _walk_members(old: dict[str, Json], new: dict[str, Json], path: list[str | int], patch: list[Op]) -> None:
    path.append("")
    for key, value in new.items():
        before = old.get(key, _ABSENT)
        if before is value or ((kind := type(value)) in _SURE and kind is type(before) and before == value):
            continue
        path[-1] = key
        if before is _ABSENT:
            patch.append({"op": "add", "path": _pointer(path), "value": value})
        else:
            _walk(before, value, path, patch)
    for key in old:
        if key not in new:
            path[-1] = key
            patch.append({"op": "remove", "path": _pointer(path)})
    path.pop()


def _walk_items(old: list[Json], new: list[Json], path: list[str | int], patch: list[Op]) -> None:
    """Lists of one length are compared item by item; else what both begin and end with is set aside first.

    What remains in the middle is compared item by item too, and the surplus is inserted or removed behind it. So one
    insertion or deletion, however long and wherever, gives the shortest patch without the square of an alignment.
    """
    shorter, head, tail = min(len(old), len(new)), 0, 0
    if len(old) != len(new):
        while head < shorter and same(old[head], new[head]):
            head += 1
        while tail < shorter - head and same(old[-1 - tail], new[-1 - tail]):
            tail += 1
    surplus = shorter - tail
    path.append(surplus)
    for index in range(head, surplus):
        before, value = old[index], new[index]
        if before is value or ((kind := type(value)) in _SURE and kind is type(before) and before == value):
            continue
        path[-1] = index
        _walk(before, value, path, patch)
    if len(old) > shorter:
        path[-1] = surplus
        where = _pointer(path)
        patch.extend({"op": "remove", "path": where} for _ in range(len(old) - shorter))
    for index in range(surplus, len(new) - tail):
        path[-1] = index
        patch.append({"op": "add", "path": _pointer(path), "value": new[index]})
    path.pop()


def _equal(a: Json, b: Json, *, strict: bool) -> bool:
    """JSON equality; not `strict`, numbers are compared by value, as RFC 6902, 4.6, says of `test`."""
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return not strict and kind in _NUMBERS and type(b) in _NUMBERS and bool(a == b)
    if kind in _SURE:
        return bool(a == b)
    if kind is float:
        return bool(a == b) and (a != 0 or not strict or copysign(1, a) == copysign(1, b))  # 0.0 == -0.0
    if kind is list:
        return len(a) == len(b) and all(_equal(x, y, strict=strict) for x, y in zip(a, b, strict=True))
    if kind is dict:
        return len(a) == len(b) and all(key in b and _equal(x, b[key], strict=strict) for key, x in a.items())
    return False


def _member(op: Mapping[str, Json], name: str) -> Json:
    try:
        return op[name]
    except (KeyError, TypeError):
        raise PatchError(f"an operation has no {name!r}: {op!r}") from None


def _pointer(path: Sequence[str | int]) -> str:
    """RFC 6901, section 3."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)


def _tokens(pointer: Json) -> list[str]:
    """RFC 6901, section 4; `~1` is decoded before `~0`, so that `~01` is `~1` and not `/`."""
    if pointer == "":
        return []
    if not isinstance(pointer, str) or pointer[0] != "/" or _BAD_ESCAPE.search(pointer):
        raise PatchError(f"not a JSON Pointer: {pointer!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _place(container: Json, token: str) -> Any:
    """The key or index of what is there already."""
    if type(container) is list:
        return _index(token, len(container))
    if type(container) is dict and token in container:
        return token
    raise PatchError(f"there is nothing at {token!r}")


def _index(token: str, end: int) -> int:
    if _INDEX.fullmatch(token) is None or int(token) >= end:
        raise PatchError(f"{token!r} is no index of a list here")
    return int(token)
