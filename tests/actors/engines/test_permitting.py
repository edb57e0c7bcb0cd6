"""Rules of the config, and what people said for ever."""

from typing import Any, cast

import pytest

from actors.context import Context
from actors.engines import permitting
from actors.engines.permitting import ALWAYS, OPTIONS, Permissions
from actors.permissions import Act, Rule, Verdict
from protocol.requests import OptionKind

MAKE = Act(tool="execute", kind="execute", command="make")


class Slices:
    """Stands for a context: the slices alone."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.signalled_by: tuple[str, ...] = ()

    def slice(self, name: str) -> Any:
        return self.values.get(name)

    def update(self, name: str, value: Any) -> None:
        self.values[name] = value


def permissions(slices: Slices, *rules: Rule) -> Permissions:
    return Permissions(cast("Context", slices), rules, root="/w")


def test_what_was_said_for_ever_is_known_to_the_next_incarnation() -> None:
    slices = Slices()
    first = permissions(slices)
    assert first.decide(MAKE) is Verdict.ASK
    rule = first.keep(MAKE, Verdict.ALLOW)
    assert rule == Rule(verdict=Verdict.ALLOW, tool="execute", command="make")
    assert permissions(slices).decide(MAKE) is Verdict.ALLOW
    assert permissions(slices).decide(Act(tool="execute", kind="execute", command="make install")) is Verdict.ASK
    assert slices.values == {
        "permissions": [{"verdict": "allow", "tool": "execute", "path": None, "command": "make"}]
    }  # fmt: skip


def test_a_deny_of_the_config_is_not_overruled() -> None:
    slices = Slices()
    both = permissions(slices, Rule(verdict=Verdict.DENY, command="make"))
    both.keep(MAKE, Verdict.ALLOW)
    assert both.decide(MAKE) is Verdict.DENY


def test_a_rule_is_kept_once_and_the_oldest_of_too_many_go(monkeypatch: Any) -> None:
    monkeypatch.setattr(permitting, "KEPT", 2)
    slices = Slices()
    kept = permissions(slices)
    for command in ("a", "b", "a", "c"):
        kept.keep(Act(tool="execute", command=command), Verdict.ALLOW)
    assert [rule.command for rule in kept.kept] == ["a", "c"]


def test_what_no_rule_could_say_narrowly_is_not_kept() -> None:
    slices = Slices()
    assert permissions(slices).keep(Act(tool="move", kind="move", paths=("/a", "/b")), Verdict.ALLOW) is None
    assert slices.values == {}


def test_the_four_options_are_named_by_their_kinds() -> None:
    assert [option.id for option in OPTIONS] == [option.kind.value for option in OPTIONS]
    assert {kind: verdict.value for kind, verdict in ALWAYS.items()} == {
        OptionKind.ALLOW_ALWAYS: "allow", OptionKind.REJECT_ALWAYS: "deny",
    }  # fmt: skip


def test_an_answer_can_be_taken_back() -> None:
    slices = Slices()
    kept = permissions(slices)
    for command in ("a", "b", "c"):
        kept.keep(Act(tool="execute", command=command), Verdict.ALLOW)
    assert [rule["command"] for rule in kept.forget({"rule": 1})] == ["b"]
    assert [rule.command for rule in kept.kept] == ["a", "c"]
    assert kept.decide(Act(tool="execute", command="b")) is Verdict.ASK
    assert [rule["command"] for rule in kept.forget({"rule": "all"})] == ["a", "c"]
    assert slices.values == {"permissions": []}


@pytest.mark.parametrize(
    "payload, says",
    [
        ({"rule": 1}, "There is no rule 1: they are counted from 0 to 0"),
        ({"rule": -1}, "There is no rule -1"),
        ({"rule": True}, "The payload of forget"),
        ({"rule": "a"}, "The payload of forget"),
        ({"rule": 0, "x": 0}, "The payload of forget"),
        (None, "The payload of forget"),
    ],
)
def test_what_is_no_rule_cannot_be_taken_back(payload: Any, says: str) -> None:
    kept = permissions(Slices())
    kept.keep(MAKE, Verdict.ALLOW)
    with pytest.raises(ValueError, match=says):
        kept.forget(payload)
    assert len(kept.kept) == 1


def test_an_engine_takes_nothing_back_that_people_said() -> None:
    slices = Slices()
    kept = permissions(slices)
    kept.keep(MAKE, Verdict.DENY)
    slices.signalled_by = ("engine:eng_1",)
    with pytest.raises(ValueError, match="token of an engine"):
        kept.forget({"rule": "all"})
    slices.signalled_by = ("user:alice",)
    assert len(kept.forget({"rule": "all"})) == 1
