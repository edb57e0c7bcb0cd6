"""Query parameters: text from the URL, read as strictly as a body is.

A parameter's form follows from its annotation in the route's signature:

    str, an enum, Literal    the text as it stands
    int, float, bool         a JSON literal: `5`, `2.5`, `true`, `false`; not `yes`, `05`, `1_000`
    list[str]                the parameter may be repeated
    tuple[str, ...]          it may be repeated, and each may be a list with commas
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import Field

from protocol.edge import parse
from protocol.errors import ValidationFailed

__all__ = ["Cursor", "Flag", "Limit", "Param", "Seq", "query_of"]

Limit = Annotated[int, Field(ge=1, le=1000, strict=True, description="How many items at most.")]
Cursor = Annotated[str, Field(max_length=512, description="`next_cursor` of the page before.")]
Flag = Annotated[bool, Field(strict=True)]
Seq = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]

_LITERAL: Final = re.compile(r"true|false|-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,24})?(?:[eE][+-]?[0-9]{1,3})?")
_MAX_FIELDS: Final = 100


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: `type` as annotated, `default` as in the signature."""

    name: str
    type: Any
    default: Any

    @property
    def many(self) -> bool:
        return get_origin(_bare(self.type)) in {list, tuple}

    def read(self, texts: Sequence[str]) -> Any:
        """The value that its texts spell. Raises ValidationFailed."""
        loc = ("query", self.name)
        if self.many:
            commas = get_origin(_bare(self.type)) is tuple
            return parse(
                self.type, [part for text in texts for part in (text.split(",") if commas else [text])], loc=loc
            )
        if len(texts) > 1:
            raise _fault(self.name, "may be given once")
        literal = _bare(self.type) in {int, float, bool} and _LITERAL.fullmatch(texts[0])
        return parse(self.type, texts[0].encode("ascii") if literal else texts[0], loc=loc)


def query_of(query_string: bytes, params: Mapping[str, Param]) -> dict[str, Any]:
    """The values of the parameters that were sent.

    Raises:
        ValidationFailed: one that the route does not know, one too often, or a value that does not fit.

    """
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise ValidationFailed("Send a query string in percent-encoded UTF-8, of at most 100 parameters.") from None
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        if name not in params:
            raise _fault(name, f"is not a parameter here; known: {', '.join(sorted(params)) or 'none'}")
        texts.setdefault(name, []).append(text)
    return {name: params[name].read(values) for name, values in texts.items()}


def _bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {Union, types.UnionType}:
            (annotation,) = (part for part in get_args(annotation) if part is not type(None))
        else:
            return annotation


def _fault(name: str, what: str) -> ValidationFailed:
    errors = [{"loc": ["query", name], "msg": what, "type": "query"}]
    return ValidationFailed(f"The query parameter {name!r} {what}. Correct it and send it again.", errors=errors)
