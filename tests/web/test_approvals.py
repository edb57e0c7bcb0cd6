"""Approvals over HTTP: who may decide, what has to be said, and who is seen to watch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority
from supervisor import EmbeddedHouse, open_supervisor
from supervisor.attendance import LOOK_S
from tests.web.doubles import ADMIN, Client, MemoryKeys
from web.app import create_app
from web.auth import Keys
from web.auth.keys import NewKey
from web.auth.principal import Principal, Scope

V1 = "/api/v1"
ASK = {"kind": "approval", "title": "Deploy?", "action": {"to": "production"}}
OWN = "the-token-of-the-engine-that-asks"


class WithOwnTokens(Keys):
    """Keys, and one token of an engine whose scopes say that it may do everything."""

    uid = ""

    def principal(self, presented: Any) -> Principal:
        if presented == OWN:
            authority = Authority(scopes=frozenset({Scope.ADMIN, Scope.APPROVE}), engine=self.uid)
            return Principal(name=f"engine:{self.uid}", authority=authority)
        return super().principal(presented)


class People:
    """A house with a pool `p` and an engine `a` in it, and clients by what they may do."""

    def __init__(self, house: EmbeddedHouse, app: Any, keys: WithOwnTokens) -> None:
        self.house, self.app, self.keys = house, app, keys
        self.admin, self.own = Client(app, ADMIN), Client(app, OWN)
        self.clients = [self.admin, self.own]

    async def somebody(self, *scopes: Scope) -> Client:
        made = await self.keys.create(NewKey(name="k", scopes=list(scopes), rate_per_min=1000))
        self.clients.append(Client(self.app, made.key))
        return self.clients[-1]

    async def asked(self, asker: Client | None = None) -> dict[str, Any]:
        """The request of a run that waits."""
        asker = asker or self.admin
        await asker.post(f"{V1}/engines/a/runs", {"input": {"ask_at": 1, "ask": ASK}}, prefer="wait=1")
        (request,) = (await self.house.requests()).items
        return {"id": request.id, "digest": request.digest, "asked_by": request.asked_by}

    async def watched(self) -> bool | None:
        (request,) = (await self.house.requests()).items
        return request.watched


@asynccontextmanager
async def people(**pool: Any) -> AsyncIterator[People]:
    async with open_supervisor(threads=False) as house:
        keys = WithOwnTokens(MemoryKeys(), ADMIN, wall=lambda: 1_000_000.0)
        app = create_app(house, keys=keys, wall=lambda: 1_000_000.0, attendance=house.attendance)
        everybody = People(house, app, keys)
        assert (await everybody.admin.post(f"{V1}/pools", {"id": "p", **pool})).status == 201
        assert (await everybody.admin.post(f"{V1}/engines", {"kind": "probe", "id": "a", "pool": "p"})).status == 201
        keys.uid = (await house.get("a")).uid
        yield everybody
        for asker in everybody.clients:
            asker.check()


async def test_an_engines_own_token_never_decides(autojump_clock: MockClock) -> None:
    async with people() as everyone:
        request = await everyone.asked()
        for path, body in (
            (f"{V1}/requests/{request['id']}/reply", {"option": "approve", "digest": request["digest"]}),
            (f"{V1}/engines/a/commands", {"type": "approve", "request_id": request["id"]}),
            (f"{V1}/engines/a/commands", {"type": "reject"}),
            (f"{V1}/engines/a/commands", {"type": "answer", "request_id": request["id"], "answer": 1}),
        ):
            got = await everyone.own.post(path, body)
            assert (got.status, got.slug) == (403, "insufficient-scope")
        assert await everyone.watched() is False


async def test_who_asked_for_the_run_gets_403_where_four_eyes_are_wanted(autojump_clock: MockClock) -> None:
    async with people(four_eyes=True) as everyone:
        ann, bob = await everyone.somebody(Scope.OPERATE, Scope.APPROVE), await everyone.somebody(Scope.APPROVE)
        request = await everyone.asked(ann)
        reply = f"{V1}/requests/{request['id']}/reply"
        got = await ann.post(reply, {"option": "approve"})
        assert (got.status, got.slug) == (403, "insufficient-scope")
        assert (await ann.post(f"{V1}/engines/a/commands", {"type": "approve"})).slug == "insufficient-scope"
        decided = await bob.post(reply, {"option": "approve"})
        assert (decided.status, decided.json["asked_by"]) == (200, request["asked_by"])
        assert (await ann.post(reply, {"option": "approve"})).slug == "insufficient-scope"
        assert (await bob.post(reply, {"option": "approve"})).slug == "already-decided"


async def test_an_approval_names_its_digest_where_the_pool_wants_it(autojump_clock: MockClock) -> None:
    async with people(require_digest=True) as everyone:
        request = await everyone.asked()
        reply = f"{V1}/requests/{request['id']}/reply"
        got = await everyone.admin.post(reply, {"option": "approve"})
        assert (got.status, got.slug, got.json["errors"][0]["loc"]) == (422, "validation-failed", ["digest"])
        stale = await everyone.admin.post(reply, {"option": "approve", "digest": "0" * 64})
        assert (stale.status, stale.slug, stale.json["digest"]) == (409, "approval-stale", request["digest"])
        assert (await everyone.admin.post(reply, {"option": "approve", "digest": request["digest"]})).status == 200


@pytest.mark.parametrize("levels", [[2, 1], [0], [1, 1], [1, 2, 3, 4, 5, 6], "10", [None]])
async def test_levels_that_cannot_be_meant_are_422(autojump_clock: MockClock, levels: Any) -> None:
    async with people(escalate_after_s=[1, 2]) as everyone:
        assert (await everyone.admin.get(f"{V1}/pools/p")).json["escalate_after_s"] == [1, 2]
        got = await everyone.admin.patch(f"{V1}/pools/p", {"escalate_after_s": levels})
        assert (got.status, got.slug) == (422, "validation-failed")


@pytest.mark.parametrize("where", ["requests", "engines/a/requests", "events"])
async def test_who_may_decide_and_reads_what_waits_is_seen_to_watch(autojump_clock: MockClock, where: str) -> None:
    async with people() as everyone:
        reader, approver = (
            await everyone.somebody(Scope.READ, Scope.OPERATE),
            await everyone.somebody(Scope.READ, Scope.APPROVE),
        )
        await everyone.asked()
        await reader.get(f"{V1}/{where}", accept="application/json")
        assert await everyone.watched() is False
        await approver.get(f"{V1}/{where}", accept="application/json")
        assert await everyone.watched() is True
        await trio.sleep(LOOK_S)
        assert await everyone.watched() is False


async def test_a_look_at_what_was_decided_watches_nothing(autojump_clock: MockClock) -> None:
    async with people() as everyone:
        await everyone.asked()
        await everyone.admin.get(f"{V1}/requests?state=decided")
        await everyone.admin.get(f"{V1}/requests?kind=question")
        await everyone.admin.get(f"{V1}/requests?pool=default")
        assert await everyone.watched() is False
        await everyone.admin.get(f"{V1}/requests?kind=approval&pool=p")
        assert await everyone.watched() is True


async def test_an_open_stream_watches_for_as_long_as_it_is_open(autojump_clock: MockClock) -> None:
    async def sent(message: Any) -> None:
        await trio.lowlevel.checkpoint()

    async with people() as everyone:
        approver = await everyone.somebody(Scope.READ, Scope.APPROVE)
        await everyone.asked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(approver.run, "GET", f"{V1}/events?types=request", None, {}, sent)
            await trio.sleep(10 * LOOK_S)
            assert await everyone.watched() is True
            nursery.cancel_scope.cancel()
        await trio.sleep(LOOK_S)
        assert await everyone.watched() is False
