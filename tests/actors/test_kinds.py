"""The registry of kinds: what is there, what is broken, and what a kind tells about itself."""

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from actors.engine import Config, Engine
from actors.kinds import BUILT_IN, GROUP, Kinds
from protocol.errors import UnknownKind, UnsupportedCommand, ValidationFailed
from protocol.specs import PauseMode


class Brew(Config):
    cups: int
    sort: Literal["black", "green"] = "black"


class Order(BaseModel):
    guest: str


class Teapot(Engine):
    kind = "teapot"
    description = "Short and stout."
    Config = Brew
    Input: ClassVar[Any] = str | Order
    emits = ("teapot.whistled",)

    @classmethod
    def check(cls, config: Brew) -> None:
        if config.cups > 6:
            raise ValueError("a teapot holds six cups")


class Kettle(Engine):
    kind = "kettle"
    takes_runs = False


KNOWN = sorted(BUILT_IN)


class Nameless(Engine):
    pass


def registered(name: str, where: str) -> EntryPoint:
    return EntryPoint(name=name, value=where, group=GROUP)


def test_the_built_in_kinds_are_there_and_the_package_registers_the_same() -> None:
    assert Kinds(registered=()).names == KNOWN
    assert {point.name: point.value for point in entry_points(group=GROUP)}.items() >= BUILT_IN.items()


def test_a_kind_is_loaded_when_it_is_asked_for(root: Path) -> None:
    lazy = "from actors.kinds import Kinds; import sys; k = Kinds(); print('actors.engines.shell' in sys.modules)"
    loaded = "; k.get('shell'); print('actors.engines.shell' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", lazy + loaded], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_classes_are_added_and_win_over_others_of_their_name() -> None:
    class Probe(Teapot):
        kind = "probe"

    kinds = Kinds([Teapot, Probe], registered=())
    assert kinds.names == sorted([*KNOWN, "teapot"])
    assert kinds.get("probe") is Probe


def test_a_class_that_cannot_be_a_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Nameless has no `kind`"):
        Kinds([Nameless], registered=())


def test_installed_packages_register_kinds_but_not_the_built_in_names() -> None:
    points = [registered("teapot", f"{__name__}:Teapot"), registered("probe", f"{__name__}:Teapot")]
    sys.modules.setdefault(__name__, sys.modules[Teapot.__module__])
    kinds = Kinds(registered=points)
    assert kinds.get("teapot").description == "Short and stout."
    assert kinds.get("probe").kind == "probe"


@pytest.mark.parametrize(
    "where, why",
    [
        ("no_such_module_at_all:Engine", "No module named 'no_such_module_at_all'"),
        ("actors.engine:Nothing", "has no attribute 'Nothing'"),
        ("json:dumps", "no subclass of Engine"),
        ("actors.engine:Engine", "Engine has no `kind`"),
        ("actors.engines.probe:Probe", "registered as 'broken', and Probe calls itself 'probe'"),
    ],
)
def test_a_broken_registration_costs_that_kind_alone(where: str, why: str) -> None:
    kinds = Kinds(registered=[registered("broken", where)])
    assert kinds.names == KNOWN
    assert why in kinds.absent["broken"]
    with pytest.raises(UnknownKind, match="could not be loaded"):
        kinds.get("broken")


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownKind, match=", ".join(KNOWN)) as unknown:
        Kinds(registered=()).get("samovar")
    assert unknown.value.extra == {"known": KNOWN}


def test_a_config_is_parsed_strictly() -> None:
    kinds = Kinds([Teapot], registered=())
    assert kinds.parse_config("teapot", {"cups": 2}) == Brew(cups=2)
    for config, loc in (({"cups": "2"}, "cups"), ({"cups": 1, "lid": 1}, "lid"), ({}, "cups")):
        with pytest.raises(ValidationFailed) as failed:
            kinds.parse_config("teapot", config)
        assert [error["loc"] for error in errors(failed.value)] == [["config", loc]]


def test_a_kind_may_refuse_a_config_that_is_valid() -> None:
    with pytest.raises(ValidationFailed, match="six cups") as failed:
        Kinds([Teapot], registered=()).parse_config("teapot", {"cups": 7})
    assert [error["loc"] for error in errors(failed.value)] == [["config"]]


def test_an_input_is_parsed_as_its_kind_says() -> None:
    kinds = Kinds([Teapot, Kettle], registered=())
    assert kinds.parse_input("teapot", "now") == "now"
    assert kinds.parse_input("teapot", {"guest": "Hare"}) == Order(guest="Hare")
    with pytest.raises(ValidationFailed) as failed:
        kinds.parse_input("teapot", {"guest": 5})
    assert all(error["loc"][0] == "input" for error in errors(failed.value))
    with pytest.raises(UnsupportedCommand):
        kinds.parse_input("kettle", "now")


def test_a_kind_tells_about_itself() -> None:
    kinds = Kinds([Teapot, Kettle], registered=())
    info = kinds.info("teapot")
    assert (info.kind, info.description, info.emits) == ("teapot", "Short and stout.", ["teapot.whistled"])
    assert info.config_schema["properties"]["sort"]["enum"] == ["black", "green"]
    assert info.config_schema["additionalProperties"] is False
    assert info.input_schema is not None
    assert "submit" in info.commands
    kettle = kinds.info("kettle")
    assert (kettle.input_schema, "submit" in kettle.commands) == (None, False)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_kinds_tell_about_themselves(name: str) -> None:
    info = Kinds(registered=()).info(name)
    assert (info.kind, info.default_pause_mode) == (name, "soft" if name in ("acp", "agent", "probe") else "freeze")
    assert info.pause_modes[0] == info.default_pause_mode
    assert info.on_interrupt == {"acp": "resume", "agent": "resume", "probe": "retry"}.get(name, "fail")
    assert PauseMode.INTERRUPT.value in info.pause_modes


def test_the_environment_in_a_config_is_masked() -> None:
    config = {"cwd": ".", "env": {"TOKEN": "s3cret"}}
    assert Kinds(registered=()).masked("shell", config) == {"cwd": ".", "env": {"TOKEN": "********"}}
    assert config["env"] == {"TOKEN": "s3cret"}


def test_what_servers_are_given_is_masked_however_deep_it_stands() -> None:
    servers = [{"name": "a", "env": {"TOKEN": "s3cret"}}, {"url": "b", "headers": {"X": "s3cret"}, "more": {"c": 1}}]
    shown = Kinds(registered=()).masked("acp", {"agent": "x", "mcp_servers": servers})["mcp_servers"]
    assert shown == [
        {"name": "a", "env": {"TOKEN": "********"}}, {"url": "b", "headers": {"X": "********"}, "more": {"c": 1}},
    ]  # fmt: skip


def errors(failed: ValidationFailed) -> list[dict[str, Any]]:
    found = failed.extra["errors"]
    assert isinstance(found, list)
    return found
