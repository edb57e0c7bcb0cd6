"""Break one mechanism for as long as a block runs, to see whether anybody notices.

A mutation is a piece of one function's source and what it becomes. When that source is changed so that the piece is
not there any more, its test says so: move the mutation along with the mechanism.
"""

import __future__

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """In the source of `where.name`, `old` becomes `new`."""

    says: str
    where: Any
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return self.says.replace(" ", "-")


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """With one piece of source changed, wherever the function is known."""
    found = inspect.getattr_static(mutation.where, mutation.name)
    function: Any = found.fget if isinstance(found, property) else found
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(mutation.old) == 1, f"{mutation.old!r} is not in {mutation.name} any more; move the mutation"
    module = sys.modules[function.__module__]
    made: dict[str, Any] = {}
    changed = source.replace(mutation.old, mutation.new)
    exec(compile(changed, str(module.__file__), "exec", __future__.annotations.compiler_flag), vars(module), made)
    with replaced(mutation.where, mutation.name, made[mutation.name]):
        yield


@contextmanager
def replaced(where: Any, name: str, new: object) -> Iterator[None]:
    """`where.name` is `new`, also in modules that imported it by name."""
    old = inspect.getattr_static(where, name)
    importers = [module for module in sys.modules.values() if vars(module).get(name) is old]
    for owner in (where, *importers):
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner in (where, *importers):
            setattr(owner, name, old)
