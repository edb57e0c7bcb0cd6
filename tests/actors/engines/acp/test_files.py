"""Files that the agent reads and writes through us: beneath its directory, and never by way of a link."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.engines.acp import files
from actors.engines.acp.files import Files
from actors.engines.acp.rpc import Refused

Odd = Callable[..., dict[str, Any]]

ASKS = """
def prompt(params):
    method, members = json.loads(params["prompt"][0]["text"])
    say(json.dumps(ask(method, **members)))
serve(prompt)
"""


class Here:
    """Stands for the context of an engine, on the loop's own thread."""

    def __init__(self) -> None:
        self.emitted: list[Any] = []

    async def blocking(self, fn: Callable[[], Any]) -> Any:
        return fn()

    async def emit(self, type: str, data: dict[str, Any]) -> None:
        self.emitted.append((type, data))


@pytest.fixture
def ctx() -> Any:
    return Here()


async def test_a_file_is_written_whole_with_its_directories_and_read_again(tmp_path: Path, ctx: Any) -> None:
    path = str(tmp_path / "src" / "deep" / "a.txt")
    assert await Files(str(tmp_path)).write(ctx, {"path": path, "content": "one\ntwo\nthree"}) == {}
    assert ctx.emitted == [("acp.file", {"path": path, "bytes": 13})]
    read = Files(str(tmp_path)).read
    assert await read(ctx, {"path": path}) == {"content": "one\ntwo\nthree"}
    assert await read(ctx, {"path": path, "line": 2}) == {"content": "two\nthree"}
    assert await read(ctx, {"path": path, "line": 2, "limit": 1}) == {"content": "two\n"}
    assert await read(ctx, {"path": path, "limit": 0}) == {"content": ""}
    assert await read(ctx, {"path": path, "line": 99}) == {"content": ""}
    assert [entry.name for entry in (tmp_path / "src" / "deep").iterdir()] == ["a.txt"]


async def test_a_file_keeps_its_mode(tmp_path: Path, ctx: Any) -> None:
    script = tmp_path / "run.sh"
    script.write_text("old")
    script.chmod(0o750)
    await Files(str(tmp_path)).write(ctx, {"path": str(script), "content": "new"})
    assert (script.read_text(), stat.S_IMODE(script.stat().st_mode)) == ("new", 0o750)


@pytest.mark.parametrize(
    "path", [None, 7, "", "a.txt", "/etc/passwd", "{root}/../x", "{root}x", "{root}", "{root}/a\0b"]
)
@pytest.mark.parametrize("how", ["read", "write"])
async def test_what_is_not_beneath_is_refused(tmp_path: Path, ctx: Any, path: Any, how: str) -> None:
    wanted = path.format(root=tmp_path) if isinstance(path, str) else path
    with pytest.raises(Refused):
        await getattr(Files(str(tmp_path)), how)(ctx, {"path": wanted, "content": "x"})


@pytest.mark.parametrize("how", ["read", "write"])
@pytest.mark.parametrize("path", ["link/secret", "secret", "pipe", "folder"])
async def test_links_and_what_is_no_file_are_refused(tmp_path: Path, ctx: Any, path: str, how: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("untouched")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "secret").symlink_to(tmp_path / "outside" / "secret")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(Refused):
        await getattr(Files(str(root)), how)(ctx, {"path": str(root / path), "content": "x"})
    assert (tmp_path / "outside" / "secret").read_text() == "untouched"
    assert (root / "secret").is_symlink()


async def test_links_in_the_directory_itself_are_followed(tmp_path: Path, ctx: Any) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    for named in ("alias", "real"):  # as it was said, and as the system says it
        await Files(str(tmp_path / "alias")).write(ctx, {"path": str(tmp_path / named / named), "content": named})
    assert sorted(entry.name for entry in (tmp_path / "real").iterdir()) == ["alias", "real"]


async def test_what_is_too_large_or_no_text_is_refused(
    tmp_path: Path, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 10)
    path = str(tmp_path / "a")
    there = Files(str(tmp_path))
    await there.write(ctx, {"path": path, "content": "x" * 10})
    with pytest.raises(Refused, match="a file may have 10 bytes here, and this has 11"):
        await there.write(ctx, {"path": path, "content": "x" * 11})
    with pytest.raises(Refused, match="`content` is needed"):
        await there.write(ctx, {"path": path})
    (tmp_path / "a").write_bytes(b"x" * 11)
    with pytest.raises(Refused, match="longer than 10 bytes"):
        await there.read(ctx, {"path": path})
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(Refused, match="not text"):
        await there.read(ctx, {"path": path})


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_nothing_is_left_of_a_write_that_failed(
    tmp_path: Path, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Refused, match="No space left"):
        await Files(str(tmp_path)).write(ctx, {"path": str(tmp_path / "a"), "content": "x"})
    assert left(tmp_path) == []


async def test_a_missing_file_has_the_protocols_own_code(tmp_path: Path, ctx: Any) -> None:
    with pytest.raises(Refused) as refused:
        await Files(str(tmp_path)).read(ctx, {"path": str(tmp_path / "none")})
    assert refused.value.code == -32002


async def test_an_agent_reads_and_writes_and_what_a_rule_forbids_stays_forbidden(
    drive: Any, odd: Odd, tmp_path: Path
) -> None:
    rules = [{"verdict": "deny", "path": ".env"}]
    engine = await drive.spawn("acp", odd(ASKS, permissions=rules))

    async def ask(method: str, **members: Any) -> str:
        text: str = (await drive.run(engine, json.dumps([method, members]))).result["text"]
        return text

    path, secret = str(tmp_path / "agent" / "a.txt"), str(tmp_path / "agent" / ".env")
    assert await ask("fs/write_text_file", path=path, content="hello") == "{}"
    assert await ask("fs/read_text_file", path=path) == '{"content": "hello"}'
    assert "a rule forbids this" in await ask("fs/write_text_file", path=secret, content="x")
    assert "a rule forbids this" in await ask("fs/read_text_file", path=secret)
    assert await drive.said(engine, "acp.file") == [{"path": path, "bytes": 5}]
