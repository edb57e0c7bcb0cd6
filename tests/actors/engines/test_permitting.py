"""Rules of the config, and what people said for ever."""

from typing import Any, cast

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
