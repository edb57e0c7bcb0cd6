"""The table in docs/agents.md, which a whole run of `make test-agents` writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from tests.agents.cast import CAST

__all__ = ["DEEDS", "ENDINGS", "Table"]

DEEDS = ("prompt", "edit", "allowed", "denied", "cancel", "soft pause", "freeze", "daemon killed", "issue")
ENDINGS = ("cancel", "stop", "SIGSEGV", "SIGKILL", "daemon killed", "dispose")
BEGIN, END = "<!-- written by `make test-agents` -->", "<!-- until here -->"


class Table:
    """`deeds`: what was done and how long it took, start of the daemon and the agent among it; `survivors`: how many
    were left two seconds after each ending; `facts`: version, seconds to start, memory.
    """

    def __init__(self) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self.deeds: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.survivors: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def deed(self, agent: str, what: str) -> Iterator[None]:
        """It is done when the block ends well."""
        begun = trio.current_time()
        yield
        took_s = trio.current_time() - begun
        self._seconds[agent] += took_s
        self.deeds[agent][what] = f"{took_s:.1f} s"

    @property
    def full(self) -> bool:
        return all(
            agent in self.facts
            and self.deeds[agent].keys() == set(DEEDS)
            and self.survivors[agent].keys() == set(ENDINGS)
            for agent in CAST
        )

    def write(self, page: Path) -> None:
        """In place of what an earlier run wrote there."""
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n{self._text()}\n{END}{after}", encoding="utf-8")

    def _text(self) -> str:
        network = "nothing but the loopback" if alone() else "the network of the machine"
        first = _rows(
            ("agent", "version", "up after", "memory", *DEEDS, "together"),
            (
                (
                    agent, facts["version"], f"{facts['up_s']:.1f} s", f"{facts['rss_bytes'] >> 20} MiB",
                    *(self.deeds[agent][deed] for deed in DEEDS), f"{self._seconds[agent]:.0f} s",
                )
                for agent, facts in sorted(self.facts.items())
            ),
        )  # fmt: skip
        second = _rows(
            ("survivors 2 s after", *ENDINGS),
            ((agent, *(self.survivors[agent][ending] for ending in ENDINGS)) for agent in sorted(self.facts)),
        )
        return f"\nEach of these was done by each agent in the last run, which had {network}:\n\n{first}\n\n{second}\n"


def alone() -> bool:
    """Whether there is no network but the loopback."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines] == ["lo"]


def _rows(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
