"""What is told of an engine that ended by itself."""

import re
from collections.abc import Callable
from typing import Any

import trio

from supervisor.house import Filter
from web.client import open_remote

Cli = Callable[..., tuple[int, str, str]]
DIES = ("spawn", "process", "--config", 'argv=["sh", "-c", "echo one >&2; echo two >&2; exit 3"]')


async def failed(daemon: Any, engine: str) -> None:
    """Returns when the engine has failed."""
    gone = Filter(engine=engine, types=("engine.failed",))
    async with open_remote(daemon.url, api_key=daemon.key) as house, house.events(gone, after="0") as stream:
        await stream.receive()


def test_a_program_that_dies_at_once_is_told_and_tried_again(cli: Cli) -> None:
    for form in ((), ("--json",)):
        code, out, err = cli(*DIES, "--id", "dies", "--spec", '{"restart": {"backoff": {"min_s": 30}}}', *form)
        assert (code, "dies" in out, "warning" in out) == (0, True, False)
        told = r"warning: dies crashed and will be tried again: .*exit status 3.*\none\ntwo\n"
        assert re.fullmatch(told, err, re.DOTALL)
        if not form:
            assert re.search(r"^ended +crashed: .*\none\ntwo$", cli("why", "dies")[1], re.MULTILINE)
        cli("dispose", "dies", "--force")


def test_why_and_show_tell_that_it_was_given_up(cli: Cli, daemon: Any) -> None:
    spec = '{"restart": {"max_restarts": 1, "window_s": 30, "backoff": {"min_s": 0}}}'
    cli(*DIES, "--id", "given", "--spec", spec)
    trio.run(failed, daemon, "given")
    for command in ("why", "show"):
        out = cli(command, "given")[1]
        assert "gave up   after 1 restarts within 30 s; `enginehouse start given` tries again\n" in out
        assert re.search(r"^ended +crashed: .*exit status 3.*\none\ntwo$", out, re.MULTILINE)
    assert re.search(r"^restart .* standard error: …$", cli("why", "given")[1], re.MULTILINE)
    cli("dispose", "given")


def test_the_window_of_the_pool_is_told_beside_its_own(cli: Cli, daemon: Any) -> None:
    cli("pool", "create", "frail", "--spec", '{"max_restarts": 0, "window_s": 20}')
    cli(*DIES, "--id", "pooled", "--pool", "frail")
    trio.run(failed, daemon, "pooled")
    assert "after 5 restarts within 60 s, or 0 of its pool within 20 s; " in cli("why", "pooled")[1]
    cli("pool", "delete", "frail", "--force")


def test_what_no_retry_mends_says_so_and_a_policy_that_does_not_restart(cli: Cli, daemon: Any) -> None:
    assert cli("spawn", "process", "--id", "absent", "--config", 'argv=["no-such-program"]')[0] == 1
    out = cli("why", "absent")[1]
    told = (
        "gave up   no retry mends it: mend the machine, then `enginehouse start absent` tries again; "
        "or dispose of it, and spawn it with another config\n"
    )
    assert told in out
    assert re.search(r"^ended +unmendable: there is no program", out, re.MULTILINE)
    cli(*DIES, "--id", "once", "--spec", '{"restart": {"policy": "temporary"}}')
    trio.run(failed, daemon, "once")
    assert "gave up   its restart policy is temporary, so nothing restarts it; " in cli("why", "once")[1]
    for engine in ("absent", "once"):
        cli("dispose", engine)
