"""Engines' own tokens: they speak for one incarnation of one engine."""

import pytest

from protocol.authority import Scope
from protocol.errors import InsufficientScope, Unauthenticated
from tests.web.auth.people import AUTH, House
from web.auth.engine_tokens import EngineTokens


async def test_a_token_is_its_engine_and_may_not_decide() -> None:
    alive = {"eng_1": 3}
    house = House(engines=EngineTokens(alive.get))
    who = house.who.holder(house.who.engines.mint("eng_1", 3, "lab"))
    assert who.name == "engine:eng_1"
    authority = who.standing()
    assert (authority.engine, authority.pools) == ("eng_1", frozenset({"lab"}))
    assert authority.sees("lab", "eng_1")
    assert not authority.sees("lab", "eng_2")
    for scope in (Scope.APPROVE, Scope.ADMIN):
        with pytest.raises(InsufficientScope):
            who.require(scope)


async def test_a_token_ends_with_its_incarnation_and_with_its_engine() -> None:
    alive = {"eng_1": 3}
    house = House(engines=EngineTokens(alive.get))
    token = house.who.engines.mint("eng_1", 3, "lab")
    who = house.who.holder(token)
    alive["eng_1"] = 4
    with pytest.raises(Unauthenticated):
        who.standing()
    del alive["eng_1"]
    assert (await house.whoami(token)).status == 401


async def test_a_token_that_says_something_else_is_refused() -> None:
    tokens = EngineTokens({"eng_1": 3, "eng_2": 3}.get)
    token = tokens.mint("eng_1", 3, "lab")
    for other in (
        token.replace("eng_1", "eng_2"),
        token.replace("~3~", "~03~"),
        token.replace("lab", "attic"),
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token + "A",
        token.rpartition("~")[0],
        "ehe~",
        "ehe~~~~",
        EngineTokens({"eng_1": 3}.get).mint("eng_1", 3, "lab"),
    ):
        with pytest.raises(Unauthenticated):
            tokens.principal(other)


async def test_a_token_is_exchanged_for_nothing() -> None:
    house = House(engines=EngineTokens({"eng_1": 1}.get))
    token = house.who.engines.mint("eng_1", 1, "lab")
    assert (await house.stranger.post(f"{AUTH}/api-key", x_api_key=token)).status == 401
