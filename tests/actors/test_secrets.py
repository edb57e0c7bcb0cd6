"""Secrets: where they may come from, and that none comes out again."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine import CannotStart
from actors.secrets import MASK, FromEnv, FromFile, Masking, Reference, Secrets, Sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    made.mkdir(mode=0o700)
    return made


def kept(path: Path, text: bytes = b"hunter2hunter2\n", mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def why(sources: Sources, reference: Reference) -> str:
    with pytest.raises(CannotStart) as caught:
        sources.read(reference)
    return str(caught.value)


def test_a_variable_that_is_named_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(env=frozenset({"DB_PASSWORD", "ABSENT"}))
    monkeypatch.setenv("DB_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("OTHER", "x")
    assert sources.read(FromEnv(env="DB_PASSWORD")) == "hunter2hunter2"
    assert "'OTHER' is not among those that a config may refer to (secrets.env)" in why(sources, FromEnv(env="OTHER"))
    assert "no variable 'ABSENT'" in why(sources, FromEnv(env="ABSENT"))


def test_a_file_is_read_without_the_end_of_its_line(folder: Path) -> None:
    sources = Sources(directories=(str(folder),))
    (folder / "deep").mkdir()
    for text in (b"hunter2", b"hunter2\n", b"hunter2\r\n"):
        kept(folder / "deep" / "key", text)
        assert sources.read(FromFile(file=str(folder / "deep" / "key"))) == "hunter2"


def test_nothing_can_be_had_by_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for reference in (FromEnv(env="SECRET"), FromFile(file=str(kept(folder / "key")))):
        with pytest.raises(ValueError, match=r"not among|not below"):
            Sources().check(reference)


@pytest.mark.parametrize("way", ["/../outside", "/./key", "//key", "/deep/../../outside", "/", "", "-beside/key"])
def test_no_path_leads_out(folder: Path, way: str) -> None:
    kept(folder / "key")
    kept(folder.parent / "outside")
    with pytest.raises(ValueError, match="not below a directory"):
        Sources(directories=(str(folder),)).check(FromFile(file=str(folder) + way))


def test_no_link_leads_out(folder: Path) -> None:
    sources = Sources(directories=(str(folder),))
    kept(folder.parent / "outside")
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "up").symlink_to("..")
    for way in ("link", "up/outside"):
        assert "cannot be opened" in why(sources, FromFile(file=f"{folder}/{way}"))


def test_a_file_must_be_private_and_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(directories=(str(folder),))
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "directory").mkdir(mode=0o700)
    wrong = {
        kept(folder / "group", mode=0o640): "nobody else's to read",
        kept(folder / "world", mode=0o604): "nobody else's to read",
        kept(folder / "binary", b"\xff\xfe"): "not text",
        kept(folder / "nul", b"hunter2\0hunter2"): "NUL",
        kept(folder / "long", b"x" * 70_000): "longer than",
        folder / "pipe": "is no file",
        folder / "directory": "is no file",
        folder / "absent": "cannot be opened",
    }
    for path, said in wrong.items():
        sentence = why(sources, FromFile(file=str(path)))
        assert said in sentence
        assert "hunter2" not in sentence
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "must be ours" in why(sources, FromFile(file=str(kept(folder / "theirs"))))


def hiding(*values: str) -> Secrets:
    secrets = Secrets()
    for value in values:
        secrets.add(value)
    return secrets


def test_a_json_value_is_masked_wherever_the_secret_stands() -> None:
    secrets = hiding("hunter2hunter2", "12345678")
    said: dict[str, Any] = {
        "text": "a hunter2hunter2, hunter2hunter2hunter2hunter2!", "hunter2hunter2": [1, None, True, 1.5],
        "deep": [{"x": ("hunter2hunter2",)}], "number": 12345678, "negative": -912345678.5,
    }  # fmt: skip
    assert secrets.masked(said) == {
        "text": "a ***, ***!", "***": [1, None, True, 1.5], "deep": [{"x": ["***"]}], "number": "***",
        "negative": "***",
    }  # fmt: skip


def test_without_secrets_a_value_is_left_as_it_is() -> None:
    value = {"a": ["hunter2"]}
    assert not Secrets()
    assert Secrets().masked(value) is value
    assert Secrets().stream().feed(b"hunter2") == b"hunter2"


def test_what_is_too_short_is_told_and_each_line_counts() -> None:
    secrets = Secrets()
    assert not secrets.add("hunter2")
    assert secrets.add("-----BEGIN KEY-----\n  MIIEvQIBADANBg\n\n-----END KEY-----")
    assert not secrets.add("hunter2hunter2\nshort")
    assert secrets.masked("hunter2 MIIEvQIBADANBg hunter2hunter2") == "hunter2 *** ***"


def test_secrets_that_overlap_are_hidden_whole() -> None:
    assert hiding("abcdefgh", "efghijkl").masked("xabcdefghijklx") == "x***x"
    assert hiding("abcdefgh", "abcdefghijkl").masked("abcdefghijkl abcdefghi") == "*** ***i"


def test_only_the_latest_of_very_many_are_remembered() -> None:
    secrets = hiding(*(f"secret-number-{n:04}" for n in range(1000)))
    assert secrets.masked("secret-number-0999 secret-number-0000") == "*** secret-number-0000"


def pieces(masking: Masking, data: bytes, *sizes: int) -> list[bytes]:
    """What comes out for pieces of these sizes, repeated, and at the end."""
    shown: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(shown) % len(sizes)]
        shown.append(masking.feed(data[at : at + size]))
        at += size
    return [*shown, masking.rest()]


@pytest.mark.parametrize("size", range(1, 20))
def test_a_secret_in_two_pieces_is_masked_as_well(size: int) -> None:
    masking = hiding("hunter2hunter2").stream()
    said = b"hu hunter2hunter2 hunter2hunter3 hunthunter2hunter2hunter hunter2hun"
    assert b"".join(pieces(masking, said, size)) == b"hu *** hunter2hunter3 hunt***hunter hunter2hun"


def test_only_what_could_become_a_secret_is_held_back() -> None:
    masking = hiding("hunter2hunter2").stream()
    assert masking.feed(b"a prompt: ") == b"a prompt: "
    assert masking.feed(b"the h") == b"the "
    assert masking.feed(b"ouse") == b"house"
    assert masking.feed(b"hunter2hunter") == b""
    assert masking.rest() == b"hunter2hunter"
    assert masking.rest() == b""


def test_a_secret_that_becomes_known_later_is_masked_from_then_on() -> None:
    secrets = Secrets()
    masking = secrets.stream()
    assert masking.feed(b"hunter2hunter2") == b"hunter2hunter2"
    secrets.add("hunter2hunter2")
    assert masking.feed(b"hunter2hunter2!") == b"***!"


@given(
    st.lists(st.text("ab", min_size=8, max_size=12), min_size=1, max_size=4),
    st.text("ab", max_size=120),
    st.lists(st.integers(1, 15), min_size=1, max_size=4),
)
def test_however_it_is_cut_no_secret_comes_out_and_no_other_byte_is_lost(
    values: list[str], text: str, sizes: list[int]
) -> None:
    secrets = hiding(*values)
    shown = b"".join(pieces(secrets.stream(), text.encode(), *sizes)).decode()
    assert not any(value in shown for value in values)
    # What is not covered by a secret is shown, in its order.
    covered = [False] * len(text)
    for value in values:
        for found in re.finditer(f"(?={value})", text):
            covered[found.start() : found.start() + len(value)] = [True] * len(value)
    assert shown.replace(MASK, "") == "".join(c for c, hidden in zip(text, covered, strict=True) if not hidden)


def test_a_stream_that_is_all_beginnings_is_held_in_bounded_memory() -> None:
    masking = hiding("a" * 64).stream()
    longest = 0
    for _ in range(1000):
        masking.feed(b"a" * 50)
        longest = max(longest, len(masking._held))  # noqa: SLF001 - how much it holds shows in nothing else
    assert longest <= 2 * 64
