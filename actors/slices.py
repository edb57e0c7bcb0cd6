"""The live values of an engine's public state, and the patches by which they change.

`update` never waits. While a write of this engine is in flight, updates only mark the slice; they become one patch when
the write is durable or when any other row of the engine is about to be written (so the order of what an author says is
kept). Patches have keyframes like video (`protocol.patch.step`), so folding a slice never costs more than twice its
size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocol.patch import size_bytes, step
from protocol.view import SliceValue

__all__ = ["Slices"]

Patched = Callable[[dict[str, Any], str | None], None]


class Slices:
    """`patched(data, run_id)` writes one `state.patched` row."""

    def __init__(self, patched: Patched) -> None:
        self._patched = patched
        self._values: dict[str, SliceValue] = {}
        self._dirty: dict[str, tuple[Any, str | None]] = {}

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    def value(self, name: str) -> Any:
        """What was last set, whether it was written already or not."""
        if name in self._dirty:
            return self._dirty[name][0]
        found = self._values.get(name)
        return found.value if found else None

    def restore(self, values: dict[str, SliceValue]) -> None:
        """Take over what the journal says."""
        self._values = {
            n: SliceValue(version=v.version, value=v.value, since_keyframe_bytes=v.since_keyframe_bytes)
            for n, v in values.items()
        }

    def set(self, name: str, value: Any, run_id: str | None) -> None:
        """Mark a slice; `value` must be JSON of the caller's own making that nobody changes any more."""
        self._dirty.pop(name, None)
        self._dirty[name] = (value, run_id)

    def flush(self) -> None:
        """Write a patch for every marked slice that really changed."""
        while self._dirty:
            name = next(iter(self._dirty))
            value, run_id = self._dirty.pop(name)
            before = self._values.get(name)
            patch, keyframe = step(
                before.value if before else None, value, before.since_keyframe_bytes if before else None
            )
            if not patch:
                continue
            size = size_bytes(patch)
            now = SliceValue(
                version=before.version + 1 if before else 1,
                value=value,
                since_keyframe_bytes=0 if keyframe or before is None else before.since_keyframe_bytes + size,
            )
            self._values[name] = now
            self._patched({"slice": name, "version": now.version, "patch": patch, "bytes": size}, run_id)
