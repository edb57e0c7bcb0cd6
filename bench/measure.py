"""How a figure is taken: sides in turn, round after round; one-shot measurements in processes of their own."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import trio

__all__ = ["Stopwatch", "apart", "in_turn", "percentile", "rate", "rss_bytes", "under_trio"]

T = TypeVar("T")


def in_turn(rounds: int, **sides: Callable[[], T]) -> dict[str, list[T]]:
    """Call every side once a round; each second round backwards, so that no side always comes after the same one."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed([*sides]):
            gc.collect()
            found[name].append(sides[name]())
    return found


def under_trio(fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Callable[[], T]:
    """A side that is one trio program."""
    return lambda: trio.run(fn, *args, strict_exception_groups=True)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._since


def rate(count: int, seconds: float) -> float:
    return count / seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above (nearest rank)."""
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)]


def rss_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def apart(fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A side that is one call in a fresh interpreter: no heap, cache or collector but its own. Arguments and result
    are JSON.
    """

    def call() -> Any:
        command = [sys.executable, "-m", "bench.measure", fn.__module__, fn.__qualname__, json.dumps(args)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    return call


if __name__ == "__main__":
    module, name, arguments = sys.argv[1:]
    print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))
