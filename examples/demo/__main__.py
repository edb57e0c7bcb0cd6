"""Runs the scenes; leaves nothing running, however it ends."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from examples.demo.daemon import daemon_in
from examples.demo.saying import DemoFailed, elapsed_s, say, title
from examples.demo.scenes import FILES, SCENES, Stage, the_end
from examples.demo.watcher import Watcher
from supervisor import Filter
from web.client import open_remote

LIMIT_S = 90


async def main(temporary: Path) -> None:
    """The scenes in order. Raises DemoFailed for the first thing that is not as it should be."""
    folder = temporary / "project"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"file-{number:02}.txt").write_text("all work and no play\n" * 1000)
    async with daemon_in(temporary / "state") as daemon:
        title("A daemon of our own")
        took_s = await daemon.start()
        say(f"it serves {daemon.url} after {took_s:.2f} s; its admin key is in a file that only we may read")
        async with (
            open_remote(daemon.url, api_key=daemon.key) as house,
            house.events(Filter(), after="0") as stream,
            trio.open_nursery() as nursery,
        ):
            stage = Stage(house, daemon, Watcher(), folder, f"demo-{secrets.token_hex(8)}")
            nursery.start_soon(stage.watcher.watch, stream)
            for scene in SCENES:
                await scene(stage)
            nursery.cancel_scope.cancel()
        await the_end(daemon)


def run() -> int:
    wrong: list[BaseException] = []
    try:
        with tempfile.TemporaryDirectory(prefix="enginehouse-demo-") as temporary:
            trio.run(limited, Path(temporary))
    except* DemoFailed as failed:
        wrong = leaves(failed)
    if wrong:
        print(f"\nFAILED: {wrong[0]}", file=sys.stderr)
        return 1
    print(f"\nAll of it happened, in {elapsed_s():.0f} s.")
    return 0


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def limited(temporary: Path) -> None:
    """The demo ends when its time is over, or when somebody ends it, and leaves nothing running either way."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted, signals)
            with trio.move_on_after(LIMIT_S) as scope:
                await main(temporary)
            nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise DemoFailed(f"it took longer than {LIMIT_S} s")


async def interrupted(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        raise DemoFailed(f"ended by {signal.Signals(number).name}")


if __name__ == "__main__":
    sys.exit(run())
