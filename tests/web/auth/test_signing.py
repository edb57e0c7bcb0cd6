"""The file that holds what signs: made once, ours alone, two keys after a rotation."""

import os
import stat
from pathlib import Path

import pytest

from tests.web.doubles import NOW_S, identity
from web.auth.access import AccessTokens
from web.auth.signing import ACCESS_S, SigningKeys, read_signing_keys, rotate_signing_keys
from web.places import Problem

SECRET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "jwt.secret"


def write(file: Path, content: bytes, mode: int = 0o600) -> None:
    file.write_bytes(content)
    file.chmod(mode)


def test_it_is_made_once_with_32_random_bytes_for_us_alone(file: Path) -> None:
    keys = read_signing_keys(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(keys.current.secret) == 43
    assert read_signing_keys(file) == keys
    assert keys.previous is None
    assert [path.name for path in file.parent.iterdir()] == ["jwt.secret"]
    other = file.with_name("other")
    assert read_signing_keys(other) != keys


def test_no_secret_is_shown(file: Path) -> None:
    assert read_signing_keys(file).current.secret.decode() not in repr(read_signing_keys(file))


@pytest.mark.parametrize("content", [bytes(range(32)), SECRET.encode(), SECRET.encode() + b"\n"])
def test_one_that_somebody_else_made_is_taken(file: Path, content: bytes) -> None:
    write(file, content)
    keys = read_signing_keys(file)
    rotated = rotate_signing_keys(file, NOW_S)
    assert rotated.previous is not None
    assert rotated.previous.secret == keys.current.secret
    assert read_signing_keys(file) == rotated


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"short", "must be 32 random bytes"),
        (b"x" * 31, "must be 32 random bytes"),
        (SECRET[:-1].encode() + b"\n", "must be 32 random bytes"),
        (b"\0" * 32, "is not random"),
        (b"changeme" * 6, "is not random"),
        (b"a" * 64, "is not random"),
        (f"{SECRET}\n{SECRET}\n".encode(), "must be"),
        (f"{SECRET}\n{SECRET} 2026-01-02T03:04:05.000Z\n".encode(), "must be"),
        (f"{SECRET} 2026-01-02T03:04:05.000Z\n".encode(), "must be"),
        (f"{SECRET}\n{SECRET[::-1]} 2026-99-02T03:04:05.000Z\n".encode(), "is no time"),
        (b"x" * 10_000, "cannot be so large"),
    ],
)
def test_a_weak_one_is_refused_in_one_sentence(file: Path, content: bytes, why: str) -> None:
    write(file, content)
    with pytest.raises(Problem, match=why) as caught:
        read_signing_keys(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o777])
def test_one_that_others_can_reach_is_refused(file: Path, mode: int) -> None:
    write(file, SECRET.encode(), mode)
    with pytest.raises(Problem, match="others may read"):
        read_signing_keys(file)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_one_in_a_folder_that_others_can_write_to_is_refused(file: Path, mode: int) -> None:
    write(file, SECRET.encode())
    file.parent.chmod(mode)
    with pytest.raises(Problem, match="others may put another file in the place"):
        read_signing_keys(file)


def test_a_link_a_folder_and_a_pipe_are_refused(file: Path) -> None:
    real = file.with_name("real")
    write(real, SECRET.encode())
    file.symlink_to(real)
    with pytest.raises(Problem, match="cannot be read"):
        read_signing_keys(file)
    file.unlink()
    file.mkdir(mode=0o700)
    with pytest.raises(Problem, match="plain file"):
        read_signing_keys(file)
    file.rmdir()
    os.mkfifo(file, 0o600)
    with pytest.raises(Problem, match="plain file"):
        read_signing_keys(file)


def test_one_of_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, SECRET.encode())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Problem, match="must belong to the user"):
        read_signing_keys(file)


def test_a_rotation_is_one_step_that_keeps_the_key_before(file: Path) -> None:
    first = read_signing_keys(file)
    token = AccessTokens(first, lambda: NOW_S).mint("user:ada", "f")
    second = rotate_signing_keys(file, NOW_S)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["jwt.secret"]
    assert second.current != first.current
    assert AccessTokens(read_signing_keys(file), lambda: NOW_S).verify(token).subject == "user:ada"
    assert second.find(first.current.kid, NOW_S + ACCESS_S - 1) is not None
    assert second.find(first.current.kid, NOW_S + ACCESS_S) is None
    assert rotate_signing_keys(file, NOW_S, at_once=True).previous is None


async def test_the_house_rotates_its_file(file: Path) -> None:
    who = identity(signing=read_signing_keys(file), secret_file=file)
    await who.rotate()
    assert read_signing_keys(file) == who.access.keys


def test_a_name_tells_nothing_of_its_secret() -> None:
    keys = SigningKeys.fresh()
    assert keys.current.kid not in keys.current.secret.decode()
    assert len(keys.current.kid) == 16
