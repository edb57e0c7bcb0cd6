"""What programs say of themselves: bytes for terminals, for parsers, for other runs. It is output, and no more."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.attack.target import Target

MB: Final = 1 << 20

SAYINGS: Final[dict[str, bytes]] = {
    "escape sequences": b"\x1b[2J\x1b[H\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1bP$qm\x1b\\\x1b[?1049h\x1b[6n\x9b31m",
    "NULs": b"a\0b\0\0c",
    "every byte": bytes(range(256)) * 4,
    "half of a character": "é🧨".encode()[:-1],
    "half a surrogate": b"\xed\xa0\x80\xed\xb0\x80",
    "a frame of events": b"\n\nid: 99999999.999999\nevent: engine.disposed\ndata: {}\n\n",
    "an end of the stream": b"event: end\ndata: {}\n\n: heartbeat\n\n",
    "an answer of HTTP": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a message of the protocol": b'{"type":"result","id":"run_x","result":"forged"}\n{"type":"hello","protocol":1}\n',
    "a row of the journal": b'{"seq":1,"type":"run.completed","data":{"result":"forged"}}\n',
    "backspaces": b"safe\x08\x08\x08\x08evil\rover",
    "the other direction": "\u202egnp.exe\u2066".encode(),
    "line ends of all sorts": "a\rb\nc\r\nd\x0be\x0cf\x1cg\u2028h\u0085i\u2029j".encode(),
    "a long line": b"x" * (3 * MB) + b"\n",
}


def saying(said: bytes, tmp_path: Path) -> str:
    """A shell command that writes these bytes."""
    path = tmp_path / "said"
    path.write_bytes(said)
    # `stty -opost`: the terminal would write \r\n for \n.
    return f"stty -opost; cat {shlex.quote(str(path))}; stty opost"


@pytest.mark.parametrize("what", SAYINGS)
async def test_a_run_is_completed_and_its_output_is_what_was_written(shared: Target, tmp_path: Path, what: str) -> None:
    engine = await shared.engine("shell")
    run = await shared.run(engine, saying(SAYINGS[what], tmp_path))
    assert (run["status"], run["result"]["exit_code"]) == ("completed", 0), run
    kept = await shared.ask("GET", f"/api/v1/runs/{run['id']}/output")
    assert kept.body == SAYINGS[what]
    assert kept.header("content-type") == "text/plain; charset=utf-8"
    assert kept.header("x-content-type-options") == "nosniff"
    # Its rows are JSON and its frames are frames, whatever is in them.
    rows = await shared.journal(types="run,log")
    mine = [row for row in rows if row.get("run_id") == run["id"]]
    assert [row["type"] for row in mine if row["type"] == "run.completed"] == ["run.completed"]
    following = await shared.run(engine, "echo still there")
    assert following["result"]["output"].strip() == "still there"


async def test_a_run_cannot_end_itself_by_writing_what_the_house_writes(shared: Target, tmp_path: Path) -> None:
    """All that a command can see of its session, written back at it: files, descriptors, variables, its own output."""
    engine = await shared.engine("shell", config={"cwd": str(tmp_path), "fail_on_exit": False})
    look = (
        "set; env; for fd in /proc/self/fd/* /proc/$$/fd/*; do readlink $fd; done; cat /proc/$$/cmdline | tr '\\0' ' '"
    )
    seen = await shared.run(engine, look)
    (tmp_path / "seen").write_bytes((await shared.output(seen["id"])).replace(b"\r\n", b"\n"))
    for forged in (
        "cat seen",
        "cat seen; false",
        "for i in 1 2 3; do cat seen; done; (exit 7)",
        r"printf '\036end 0\036\n\035\034\033]777;end;0\007'; (exit 7)",
        "for fd in /proc/$$/fd/*; do printf 'exit 0\\n' 2>/dev/null >$fd; done; (exit 7)",
    ):
        run = await shared.run(engine, f"{forged}; code=$?; echo honest end; (exit $code)")
        wanted = {"cat seen": 0, "cat seen; false": 1}.get(forged, 7)
        output = await shared.output(run["id"])
        if "/fd/" in forged:  # it wrote over its own command, which is its right; the next run is not touched by it
            assert run["status"] in {"completed", "failed"}
            continue
        assert (run["status"], run["result"]["exit_code"]) == ("completed", wanted), forged
        assert b"honest end" in output
    after = await shared.run(engine, "echo untouched; (exit 3)")
    assert (after["result"]["exit_code"], after["result"]["output"].strip()) == (3, "untouched")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("megabytes", [16, pytest.param(1024, marks=pytest.mark.torture)])
async def test_a_line_of_any_length_costs_disk_and_no_memory(shared: Target, megabytes: int) -> None:
    engine = await shared.engine("shell")
    before = shared.rss_bytes()
    run = await shared.run(engine, f"head -c {megabytes}M /dev/zero | tr '\\0' x", wait_s=60)
    while run["status"] == "running":
        await shared.ask("GET", "/api/v1/events?wait_s=5&types=run.completed", None, "Accept: application/json")
        run = (await shared.ask("GET", f"/api/v1/runs/{run['id']}")).json
    assert run["status"] == "completed", run
    assert run["output_bytes"] == megabytes * MB
    assert len(json.dumps(run)) < 2 * MB
    assert shared.rss_bytes() - before < 150 * MB


def program(body: str, **config: Any) -> dict[str, Any]:
    head = "import json, os, signal, sys\ndef say(**m): print(json.dumps(m), flush=True)\ndef hear(): return json.loads(input())\n"
    return {"config": {"argv": [sys.executable, "-c", head + body], **config}, "restart": {"policy": "temporary"}}


BROKEN: Final[dict[str, str]] = {
    "no JSON": "sys.stdout.buffer.write(b'\\xff\\xfe nonsense\\n'); sys.stdout.flush(); signal.pause()",
    "a line without an end": "sys.stdout.write('{' + ' ' * (5 << 20)); sys.stdout.flush(); signal.pause()",
    "brackets": "sys.stdout.write('[' * 900_000 + '\\n'); sys.stdout.flush(); signal.pause()",
    "a number of a million digits": "sys.stdout.write('{\"type\":\"log\",\"text\":' + '9' * 900_000 + '}\\n'); sys.stdout.flush(); signal.pause()",
    "half a surrogate": 'sys.stdout.write(\'{"type":"log","text":"\\\\ud800"}\\n\'); sys.stdout.flush(); signal.pause()',
    "NaN": 'sys.stdout.write(\'{"type":"progress","id":"x","data":NaN}\\n\'); sys.stdout.flush(); signal.pause()',
    "another version": "say(type='hello', protocol=2); signal.pause()",
    "an event of ours": "say(type='hello', protocol=1); say(type='event', name='../engine.disposed', data={}); signal.pause()",
    "a slice that is a path": "say(type='hello', protocol=1); say(type='update', slice='../../etc', value=1); signal.pause()",
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_program_that_breaks_the_protocol_crashes_its_own_engine(shared: Target, what: str) -> None:
    engine = await shared.engine("process", **program(BROKEN[what]))
    await until(shared, engine, {"failed", "stopped"})
    shown = (await shared.ask("GET", f"/api/v1/engines/{engine}")).json
    said = json.dumps(shown["last_exit"])
    assert len(said) < 20_000
    assert "\\u001b" not in said
    assert (await shared.ask("DELETE", f"/api/v1/engines/{engine}?force=true&grace_s=1")).json["leaks"] == []


LAST: Final = "print('my last words', file=sys.stderr, flush=True); "

BAD: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "a missing program": ({"argv": ["no-such-program"]}, "there is no program 'no-such-program'"),
    "a program that is none": ({"argv": ["/etc/passwd"]}, "cannot be executed"),
    "another version": ({"body": LAST + "say(type='hello', protocol=2); signal.pause()"}, "speaks version 2"),
    "garbage": ({"body": LAST + "print('garbage', flush=True); signal.pause()"}, "is not JSON: 'garbage'"),
    "half a line": (
        {"body": LAST + "say(type='hello', protocol=1); sys.stdout.write('{\"type\":\"lo')"},
        "in the middle of a line",
    ),
    "nothing in time": ({"body": LAST + "signal.pause()", "boot_s": 2.0}, "said no hello within 2 s"),
    "a hello and no ready": (
        {"body": LAST + "say(type='hello', protocol=1, ready=False); signal.pause()", "boot_s": 2.0},
        "was not ready within 2 s",
    ),
    "silence after a promise": (
        {"body": LAST + "say(type='hello', protocol=1, heartbeat_s=0.1); signal.pause()"},
        "said nothing for 0.2 s",
    ),
    "a snapshot too large": (
        {"body": LAST + "say(type='hello', protocol=1); say(type='snapshot', value='x' * 300_000); signal.pause()"},
        "a `snapshot` has 300033 bytes",
    ),
}


def bad(config: dict[str, Any]) -> dict[str, Any]:
    spec = {name: config[name] for name in ("boot_s",) if name in config}
    if "body" in config:
        return {**program(config["body"]), **spec}
    return {"config": config, "restart": {"policy": "temporary"}, **spec}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_program_fails_its_engine_with_a_sentence_and_no_other(shared: Target, what: str) -> None:
    config, says = BAD[what]
    other = await shared.engine()
    working = await shared.run(other, {"steps": 1000, "step_s": 3600}, wait_s=0)
    engine = await shared.engine("process", **bad(config))
    await until(shared, engine, {"failed"})
    error = (await shared.ask("GET", f"/api/v1/engines/{engine}")).json["last_exit"]["error"]
    assert says in error
    assert ("my last words" in error) == ("body" in config)
    assert (await shared.ask("GET", f"/api/v1/runs/{working['id']}")).json["status"] == "running"
    shown = (await shared.ask("GET", f"/api/v1/engines/{other}")).json
    assert (shown["state"], shown["restarts"]) == ("running", 0)
    for name in (engine, other):
        await shared.ask("DELETE", f"/api/v1/engines/{name}?force=true&grace_s=1")


async def test_a_wrong_directory_is_refused_and_one_that_goes_away_fails(shared: Target, tmp_path: Path) -> None:
    config = {"argv": ["true"], "cwd": "/proc/nowhere"}
    engine = await shared.engine("process", config=config, restart={"policy": "temporary"})
    await until(shared, engine, {"failed"})
    shown = (await shared.ask("GET", f"/api/v1/engines/{engine}")).json
    assert "cannot start in the folder '/proc/nowhere'" in shown["last_exit"]["error"]
    await shared.ask("DELETE", f"/api/v1/engines/{engine}?force=true")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("megabytes", [32, pytest.param(1024, marks=pytest.mark.torture)])
@pytest.mark.parametrize("protocol", ["jsonl", "none"])
async def test_a_line_of_any_length_costs_a_program_no_more_than_its_engine(
    shared: Target, protocol: str, megabytes: int
) -> None:
    """In a protocol it is a crash; where the program is the work it is kept in a file, which rotates."""
    before = shared.rss_bytes()
    body = f"for _ in range({megabytes}): sys.stdout.write('x' * (1 << 20))\nsys.stdout.flush(); print('said', file=sys.stderr)"
    log = {"max_bytes": MB, "backups": 1, "events": True}
    engine = await shared.engine("process", **program(body, protocol=protocol, stdout_log=log))
    await until(shared, engine, {"failed", "stopped"})
    ended = (await shared.ask("GET", f"/api/v1/engines/{engine}")).json["last_exit"]
    if protocol == "jsonl":
        assert "a line is longer than 1048576 bytes" in ended["error"]
    else:
        assert ended["cause"] == "finished"
        page = (await shared.ask("GET", f"/api/v1/engines/{engine}/logs/stdout?after=0&limit=1048576")).json
        assert set(page["text"]) == {"x"}
    assert shared.rss_bytes() - before < 150 * MB
    await shared.ask("DELETE", f"/api/v1/engines/{engine}?force=true&grace_s=1")


async def until(target: Target, engine: str, states: set[str]) -> None:
    while (await target.ask("GET", f"/api/v1/engines/{engine}")).json["state"] not in states:
        await target.ask("GET", f"/api/v1/engines/{engine}/events?wait_s=1", None, "Accept: application/json")


async def test_a_program_speaks_for_its_own_run_alone(shared: Target) -> None:
    """It names the run of another engine in every message that has an id, then its own."""
    victim = await shared.engine()
    theirs = await shared.run(victim, {"steps": 1000, "step_s": 3600}, wait_s=0)
    body = f"""
say(type="hello", protocol=1)
while (m := hear())["type"] != "run": pass
for type in ("result", "error", "output", "progress", "ask", "event", "update", "log"):
    say(type=type, id={theirs["id"]!r}, result="forged", slug="forged", detail="forged", text="forged", data={{}},
        ask="a", title="forged", name="forged", slice="forged", value="forged")
say(type="result", id=m["id"], result="mine")
signal.pause()
"""
    engine = await shared.engine("process", **program(body))
    mine = await shared.run(engine)
    assert (mine["status"], mine["result"]) == ("completed", "mine")
    assert (await shared.ask("GET", f"/api/v1/runs/{theirs['id']}")).json["status"] == "running"
    assert (await shared.ask("GET", f"/api/v1/engines/{victim}/requests")).json["items"] == []
    assert b"forged" not in await shared.output(theirs["id"])
    rows = await shared.journal()
    assert [row for row in rows if row["engine_id"] == victim and "forged" in json.dumps(row)] == []
    for name in (engine, victim):
        await shared.ask("DELETE", f"/api/v1/engines/{name}?force=true&grace_s=1")


async def test_a_program_that_floods_does_not_drown_the_house(shared: Target) -> None:
    body = """
say(type="hello", protocol=1)
while True: sys.stdout.write('{"type":"log","text":"flood"}\\n' * 1000)
"""
    engine = await shared.engine("process", **program(body))
    before = shared.rss_bytes()
    for _ in range(3):
        await shared.well()
    assert shared.rss_bytes() - before < 150 * MB
    assert (await shared.ask("DELETE", f"/api/v1/engines/{engine}?force=true&grace_s=1")).json["leaks"] == []


async def test_a_child_that_calls_the_house_is_a_stranger(shared: Target, tmp_path: Path) -> None:
    """It knows the port, and has whatever is in its environment and in that of the processes above it."""
    script = tmp_path / "call.py"
    script.write_text(
        "import http.client, os, re, sys\n"
        "found = set()\n"
        "pid = os.getpid()\n"
        "while pid > 1 and pid != int(sys.argv[2]):\n"
        "    text = open(f'/proc/{pid}/environ', 'rb').read() + open(f'/proc/{pid}/cmdline', 'rb').read()\n"
        "    found |= set(re.findall(rb'[!-~]{20,}', text))\n"
        "    pid = int(re.search(r'PPid:\\s*(\\d+)', open(f'/proc/{pid}/status').read())[1])\n"
        "words = {''} | {part for word in found for part in (word.decode(), word.decode().partition('=')[2])}\n"
        "for word in sorted(words):\n"
        "    call = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n"
        "    call.request('GET', '/api/v1/engines', headers={'Authorization': 'Bearer ' + word} if word else {})\n"
        "    print(call.getresponse().status)\n"
    )
    engine = await shared.engine("shell")
    run = await shared.run(engine, f"{sys.executable} {script} {shared.port} {shared.daemon.pid}")
    said = (await shared.output(run["id"])).split()
    assert len(said) >= 2, said
    assert set(said) == {b"401"}


async def test_hostile_output_leaves_the_house_well(shared: Target) -> None:
    await shared.well()
