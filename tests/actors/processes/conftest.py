"""Real processes: what the tests of process trees share."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from actors.children import ChildPolicy, ControlGroups
from actors.processes import Process, Tree, claim

NUMBERS = iter(range(1, 1_000_000))


def _control_groups() -> list[ControlGroups | None]:
    """Without any, and where this machine gives us some, with them too."""
    claimed = claim()
    return [None, claimed] if isinstance(claimed, ControlGroups) else [None]


@pytest.fixture(params=_control_groups(), ids=lambda groups: "groups" if groups else "keeper")
def groups(request: pytest.FixtureRequest) -> ControlGroups | None:
    """Where trees have control groups."""
    found: ControlGroups | None = request.param
    return found


@pytest.fixture
def house() -> str:
    """A house's name that no other test of this machine uses."""
    return f"test-{os.getpid()}-{next(NUMBERS)}"


@pytest.fixture
async def tree(house: str, groups: ControlGroups | None) -> AsyncIterator[Tree]:
    made = Tree(f"{house}.engine.1", ChildPolicy(groups=groups))
    yield made
    assert await made.end(term_s=0) == []


@pytest.fixture
def words() -> Callable[[Process, int], Awaitable[list[str]]]:
    """A reader of the first words that a process prints, within five seconds."""

    async def read(process: Process, count: int) -> list[str]:
        heard = b""
        with trio.fail_after(5):
            while len(heard.split()) < count or not heard.endswith(b"\n"):
                data = await process.stdout.receive_some()
                assert data, f"the output ended after {heard!r}"
                heard += data
        return heard.decode().split()

    return read


@pytest.fixture
def exists() -> Callable[[str], bool]:
    """Whether there is such a process, be it a zombie."""
    return lambda pid: Path(f"/proc/{int(pid)}").exists()


@pytest.fixture
def no_leaked_descriptors() -> Iterator[None]:
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    yield
    assert len(list(folder.iterdir())) <= before


# Prints six pids: a program that ignores SIGTERM and SIGHUP (inherited by all below it), a child, and out of reach of
# its session, orphaned by a double fork: a grandchild with a child that cleared its environment and one deeper still.
STUBBORN = r"""
trap "" TERM HUP
(setsid sh -c 'env -i sleep 1000 & echo $!; sh -c "sleep 1000 & echo \$! \$\$; wait" & echo $$; wait' &)
sleep 1000 & echo $! $$
wait
"""


@pytest.fixture
def stubborn() -> list[str]:
    """An argv that prints six pids and cannot be ended but by SIGKILL of each."""
    return ["sh", "-c", STUBBORN]
