"""The edge: bytes and plain JSON values become frozen data here, strictly, or a `ValidationFailed` that names each
fault.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json, to_jsonable_python

from protocol.errors import ValidationFailed

__all__ = ["adapter", "as_json", "dump", "load", "parse", "schema", "wrong"]

T = TypeVar("T")


@cache
def adapter(model: Any) -> TypeAdapter[Any]:
    """The validator and serializer of a model, built once."""
    return TypeAdapter(model)


def parse(model: type[T], value: bytes | object, *, loc: tuple[str, ...] = ()) -> T:
    """`value` (JSON bytes, or values that JSON could hold) as `model`, strictly. Raises ValidationFailed."""
    raw = value if isinstance(value, bytes) else to_json(value)
    try:
        return cast("T", adapter(cast("Any", model)).validate_json(raw))
    except ValidationError as error:
        errors = [
            {"loc": [*loc, *e["loc"]], "msg": e["msg"].removeprefix("Value error, "), "type": e["type"]}
            for e in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        # Where several shapes are allowed, the fault deepest inside is of the shape that was meant.
        first = max(errors, key=lambda fault: len(cast("list[object]", fault["loc"])))
        where = ".".join(str(part) for part in cast("list[object]", first["loc"])) or "the body"
        raise ValidationFailed(f"{where}: {first['msg']}. Correct it and send it again.", errors=errors) from None


def wrong(member: str, sentence: str) -> ValidationFailed:
    """What no shape can say: that this member of the body does not go. The sentence says what does."""
    return ValidationFailed(sentence, errors=[{"loc": ["body", member], "msg": sentence, "type": member}])


def dump(value: object) -> bytes:
    """Dataclasses, models and plain values as compact JSON bytes."""
    return to_json(value)


def as_json(value: object) -> Any:
    """The same as plain JSON values (dict, list, str, int, float, bool, None)."""
    return to_jsonable_python(value)


def load(model: type[T], raw: bytes | Any) -> T:
    """What `dump` or `as_json` wrote, read back (trusted: our own store's bytes). Members of a later version are
    ignored.
    """
    check = (
        adapter(cast("Any", model)).validate_json
        if isinstance(raw, bytes)
        else adapter(cast("Any", model)).validate_python
    )
    return cast("T", check(raw, strict=False))


def schema(model: Any) -> dict[str, Any]:
    """JSON Schema of what `parse` accepts."""
    return adapter(cast("Any", model)).json_schema()
