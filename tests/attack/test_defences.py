"""Turn one defence off and an attack succeeds that fails otherwise; else the defence would be for show, or its test.

In this process and over real sockets, on a virtual clock: so that a check can be broken, and a deadline be waited for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from supervisor import open_supervisor
from tests.attack.wire import Answer, Line, request
from tests.mutation import Mutation, mutated
from tests.web.doubles import ADMIN, MemoryKeys
from tests.web.test_server import serving
from web import bodies, guard, http1, perform, strict_json
from web.app import Api, create_app
from web.auth import Failures, Keys
from web.auth import credentials as presented
from web.auth.keys import NewKey
from web.auth.principal import Scope
from web.auth.rates import _Counted
from web.connection import Connection
from web.guard import Guard
from web.limits import Limits
from web.server import _Server
from web.streams import Streams

pytestmark = pytest.mark.filterwarnings("ignore")  # a broken server may leave anything behind

NEVER_S: Final = 200.0
"""Longer than any deadline that a client meets."""

LIMITS: Final = Limits(connections=8, address_connections=6)

RUNS: Final = "/api/v1/engines/a/runs"
ENGINES: Final = "/api/v1/engines"
JSON: Final = "Content-Type: application/json"


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


class House:
    """One that is attacked in this process. `wall`: its time of day, which an attack may set."""

    def __init__(self, port: int, app: Api, wall: list[float]) -> None:
        self.port = port
        self.app = app
        self.wall = wall

    @property
    def keys(self) -> Keys:
        return self.app.services.keys

    async def send(self, sent: bytes, method: bytes = b"GET") -> Answer | None:
        line = await Line.open(self.port)
        try:
            with trio.fail_after(NEVER_S):
                await line.send(sent)
                return await line.answer(method)
        finally:
            line.close()

    async def ask(
        self,
        method: str,
        target: str,
        *lines: str,
        body: bytes | None = None,
        key: str | None = ADMIN,
        host: str = "localhost",
    ) -> int:
        """The status; 0 when there was no answer."""
        if key is not None:
            lines = (*lines, f"Authorization: Bearer {key}")
        answer = await self.send(request(method, target, *lines, body=body, host=host), method.encode())
        return answer.status if answer is not None else 0

    async def post(self, body: bytes, target: str = RUNS) -> int:
        return await self.ask("POST", target, JSON, body=body)

    async def stays(self, sent: bytes) -> bool:
        """Whether a connection that has sent this, and then sends a byte now and then, is there after all that time."""
        line = await Line.open(self.port)
        try:
            await line.send(sent)
            async with trio.open_nursery() as nursery:

                async def drip() -> None:
                    while True:
                        await trio.sleep(2)
                        await line.send(b"x")

                nursery.start_soon(drip)
                with trio.move_on_after(NEVER_S):
                    while await line.more():
                        pass
                nursery.cancel_scope.cancel()
            return not line.closed
        finally:
            line.close()


@asynccontextmanager
async def attacked() -> AsyncIterator[House]:
    wall = [1_000_000.0]
    async with open_supervisor(threads=False, wall=lambda: wall[0]) as house:
        keys = Keys(MemoryKeys(), ADMIN, wall=lambda: wall[0])
        app = create_app(house, keys=keys, limits=LIMITS)
        async with serving(Guard(app), limits=LIMITS) as (port, _):
            found = House(port, app, wall)
            await found.post(b'{"kind":"probe","id":"a"}', ENGINES)
            yield found


Attack = Callable[[House], Awaitable[bool]]


# What succeeds without a defence. Each says whether it did.


async def rebinding(house: House) -> bool:
    return await house.ask("GET", ENGINES, host="evil.example") == 200


async def two_hosts(house: House) -> bool:
    sent = request("GET", ENGINES, "Host: localhost", f"Authorization: Bearer {ADMIN}", host="localhost")
    answer = await house.send(sent)
    return answer is not None and answer.status == 200


async def foreign_origin(house: House) -> bool:
    return await house.ask("POST", ENGINES, JSON, "Origin: https://evil.example", body=b'{"kind":"probe"}') == 201


async def cross_site(house: House) -> bool:
    return await house.ask("GET", ENGINES, "Sec-Fetch-Site: cross-site") == 200


async def a_form(house: House) -> bool:
    return await house.ask("POST", ENGINES, "Content-Type: text/plain", body=b'{"kind":"probe"}') == 201


async def compressed(house: House) -> bool:
    return await house.ask("POST", ENGINES, JSON, "Content-Encoding: gzip", body=b'{"kind":"probe"}') == 201


async def a_nul(house: House) -> bool:
    return await house.ask("GET", f"{ENGINES}/a%00b") != 400


async def trace(house: House) -> bool:
    return await house.ask("TRACE", ENGINES, key=None) != 405


async def long_uri(house: House) -> bool:
    return await house.ask("GET", f"{ENGINES}?cursor={'a' * 5000}") != 414


async def many_headers(house: House) -> bool:
    return await house.ask("GET", ENGINES, *[f"X-{n}: 1" for n in range(100)]) == 200


async def framed(house: House) -> bool:
    answer = await house.send(request("GET", "/docs"))
    plain = await house.send(request("GET", "/health/live"))
    return any(found is None or found.header("x-content-type-options") is None for found in (answer, plain))


def bomb(body: bytes) -> Attack:
    async def attack(house: House) -> bool:
        return await house.post(body) != 400

    return attack


async def announced(house: House) -> bool:
    """A body that is only announced is refused before it comes."""
    began = trio.current_time()
    await house.send(
        request("POST", RUNS, JSON, f"Authorization: Bearer {ADMIN}", "Content-Length: 3000000", host="localhost")
    )
    return trio.current_time() - began > 1


async def unannounced(house: House, target: str = RUNS) -> bool:
    """A body in pieces that nobody announced."""
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    head = request(
        "POST", target, JSON, f"Authorization: Bearer {ADMIN}", "Transfer-Encoding: chunked", host="localhost"
    )
    answer = await house.send(head + piece * 20 + b"0\r\n\r\n")
    return answer is not None and answer.status != 413


def raw(sent: bytes, refused: int = 400) -> Attack:
    async def attack(house: House) -> bool:
        answer = await house.send(sent.replace(b"@KEY@", ADMIN.encode()))
        return answer is not None and answer.status != refused

    return attack


HEAD: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


async def upgraded(house: House) -> bool:
    lines = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    answer = await house.send(request("GET", ENGINES, *lines, f"Authorization: Bearer {ADMIN}"))
    return answer is None or answer.status != 200


async def slow_head(house: House) -> bool:
    return await house.stays(HEAD + b"X-Slow: ")


async def slow_body(house: House) -> bool:
    lines = (JSON, f"Authorization: Bearer {ADMIN}", "Content-Length: 100000")
    return await house.stays(request("POST", RUNS, *lines, host="localhost") + b"{")


async def idle(house: House) -> bool:
    line = await Line.open(house.port)
    await line.send(HEAD + b"\r\n")
    await line.answer()
    with trio.move_on_after(NEVER_S):
        while await line.more():
            pass
    line.close()
    return not line.closed


async def served(house: House, addresses: list[str]) -> int:
    """How many connections at once are served, one from each address."""
    lines = [Line(await trio.open_tcp_stream("127.0.0.1", house.port, local_address=own)) for own in addresses]
    count = 0
    for line in lines:
        await line.send(HEAD + b"\r\n")
        answer = await line.answer()
        count += answer is not None and answer.status == 200
    for line in lines:
        line.close()
    return count


async def crowd(house: House) -> bool:
    return await served(house, [f"127.0.0.{number}" for number in range(1, 13)]) > 8


async def huddle(house: House) -> bool:
    return await served(house, ["127.0.0.1"] * 12) > 6


async def guessing(house: House) -> bool:
    return {await house.ask("GET", ENGINES, key=f"guess-{n}") for n in range(LIMITS.failures_per_min + 2)} == {401}


async def guessed(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ]))
    return await house.ask("GET", ENGINES, key=made.key[:-10] + "x" * 10) == 200


async def expired(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ], expires_in_s=10))
    house.wall[0] += 11
    return await house.ask("GET", ENGINES, key=made.key) == 200


async def clock_set_back(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ], expires_in_s=10))
    house.wall[0] += 11
    await house.ask("GET", ENGINES, key=made.key)
    house.wall[0] -= 11
    return await house.ask("GET", ENGINES, key=made.key) == 200


async def revoked(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ]))
    await house.ask("DELETE", f"/api/v1/auth/keys/{made.id}")
    return await house.ask("GET", ENGINES, key=made.key) == 200


async def nobody(house: House) -> bool:
    return await house.ask("GET", ENGINES, key=None) == 200


async def two_keys(house: House) -> bool:
    """One of them is good; which is looked at must not be left to chance."""
    return 200 in [await house.ask("GET", ENGINES, f"X-API-Key: another-{number}") for number in range(20)]


async def climbing(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ]))
    return await house.ask("GET", "/api/v1/auth/keys", key=made.key) == 200


async def polling(house: House) -> bool:
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ], rate_per_min=3))
    return 429 not in [await house.ask("GET", ENGINES, key=made.key) for _ in range(5)]


async def hoarding(house: House) -> bool:
    """More streams than a key may have."""
    made = await house.keys.create(NewKey(name="k", scopes=[Scope.READ]))
    house.app.services.keys.principal(made.key)
    found = [house.app.services.streams.admit(house.keys.principal(made.key)) for _ in range(17)]
    try:
        for place in found:
            place.__enter__()
    except Exception:  # noqa: BLE001  # any refusal will do
        return False
    return True


@dataclass(frozen=True)
class Defence:
    """`off`: what turns it off; `attack`: what succeeds then."""

    off: Mutation | Callable[..., None]
    attack: Attack

    def __str__(self) -> str:
        return str(self.off) if isinstance(self.off, Mutation) else self.off.__name__.replace("_", "-")


def without(check: Callable[..., None]) -> Callable[..., None]:
    """The guard without one of its checks."""
    return check


def off(says: str, where: Any, name: str, old: str, new: str, attack: Attack) -> Defence:
    return Defence(Mutation(says, where, name, old, new), attack)


NO_DEADLINE = "CancelScope(shield=True)"

DEFENCES: Final = [
    Defence(without(guard.check_host), rebinding),
    Defence(without(guard.check_target), a_nul),
    Defence(without(guard.check_method), trace),
    Defence(without(guard.check_size), long_uri),
    Defence(without(guard.check_size), many_headers),
    off("any origin", guard, "check_origin", "if origins and", "if False and", foreign_origin),
    off("any site", guard, "check_origin", "if not _OWN_SITE", "if False and not _OWN_SITE", cross_site),
    off("no headers of ours", guard, "hardened", "if item[0] not in present", "if False", framed),
    off("any content type", bodies, "require_json", "if media_type", "if False and media_type", a_form),
    off("any coding", bodies, "require_json", 'if name == b"content-encoding"', "if False", compressed),
    off("any announced size", bodies, "read_body", "int(value) > limits.body_bytes", "False", announced),
    off("any received size", bodies, "read_body", "if len(body) > limits.body_bytes:", "if False:", unannounced),
    off("any size for Quart", Limits, "for_quart", '"MAX_CONTENT_LENGTH": self.body_bytes', '"MAX_CONTENT_LENGTH": 1 << 40', partial(unannounced, target=ENGINES)),
    off("any depth", strict_json, "parse", "_check_depth(data, max_depth)", "pass", bomb(b'{"input":' + b"[" * 65 + b"]" * 65 + b"}")),
    off("any number of keys", strict_json, "parse", "if keys > max_keys:", "if False:", bomb(b'{"input":[' + b",".join([b'{"a":1}'] * 10_001) + b"]}")),
    off("keys twice", strict_json, "parse", "if len(result) != len(pairs):", "if False:", bomb(b'{"input":"a","input":"b"}')),
    off("any integer", strict_json, "parse", 'len(digits) - digits.startswith("-") > max_int_digits', "False", bomb(b'{"input":' + b"9" * 301 + b"}")),
    off("NaN", strict_json, "parse", "parse_constant=_no_constant", "parse_constant=float", bomb(b'{"input":NaN}')),
    off("infinite floats", strict_json, "parse", "parse_float=_finite", "parse_float=float", bomb(b'{"input":1e999}')),
    off("half surrogates", strict_json, "parse", "if _SURROGATE_ESCAPE.search(data) and", "if False and", bomb(b'{"input":"\\ud800"}')),
    off("any encoding", strict_json, "parse", 'data.decode("utf-8")', 'data.decode("latin-1")', bomb(b'{"input":"\xc0\xaf"}')),
    off("any character", http1.StrictH11, "_check_head", "if _FORBIDDEN.search", "if False and _FORBIDDEN.search", raw(HEAD + b"X-A: a\nX-B: b\r\n\r\n")),
    off("folded lines", http1.StrictH11, "_check_head", "if _FORBIDDEN.search", "if False and _FORBIDDEN.search", raw(HEAD + b"X-A: a\r\n b\r\n\r\n")),
    off("two lengths", http1, "_check_request", "framing == _FRAMING", "False", raw(b"POST /api/v1/engines HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
    off("any version", http1, "_check_request", "if request.http_version not in _VERSIONS", "if False", raw(HEAD.replace(b"1.1", b"1.7") + b"\r\n")),
    off("any case of a method", http1, "_check_request", "if request.method != request.method.upper()", "if False", raw(HEAD.replace(b"GET", b"get") + b"\r\n")),
    off("upgrades", http1.Http1, "_create_stream", 'if name != b"upgrade"', "if True", upgraded),
    off("heads for ever", Connection, "_read", "trio.current_time() + self._limits.header_s", "inf", slow_head),
    off("bodies for ever", Connection, "_enter_phase", "now + limits.body_s", "inf", slow_body),
    off("silence for ever", Connection, "_on_protocol", "trio.current_time() + self._limits.keep_alive_s", "inf", idle),
    off("any number of connections", _Server, "welcome", "len(self._open) >= limits.connection_cap()", "False", crowd),
    off("any number from one address", _Server, "_has_enough", "self._by_address[address] >= self._limits().address_cap()", "False", huddle),
    off("any number of guesses", Failures, "counted", "if self._windows.count(address) >= self.per_min:", "if False:", guessing),
    off("any secret of a known key", Keys, "principal", "not hmac.compare_digest(digest, stored.digest)", "False", guessed),
    off("expired keys", Keys, "principal", "if info.expires_at is not None and", "if False and", expired),
    off("a clock that goes back", Keys, "_now", "max(self._latest, self._wall())", "self._wall()", clock_set_back),
    off("revoked keys", Keys, "revoke", "self._keys.pop(id, None)", "pass", revoked),
    off("no key at all", Keys, "principal", "if self.enable_auth:", "if False:", nobody),
    off("two keys", presented, "presented_key", "if len(found) > 1 or", "if", two_keys),
    off("any scope", perform, "perform", "principal.require(", "str(", climbing),
    off("any rate", _Counted, "enter", "if self._windows.count(key) < self._rate:", "if True:", polling),
    off("any number of streams", Streams, "admit", "if self._open[principal.name] >= most:", "if False:", hoarding),
]  # fmt: skip


@pytest.mark.parametrize("defence", DEFENCES, ids=str)
async def test_an_attack_succeeds_only_without_its_defence(
    defence: Defence, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with attacked() as house:
        assert not await defence.attack(house), "it succeeds although the defence is on"
    with mutated(defence.off) if isinstance(defence.off, Mutation) else nullcontext():
        checks = [getattr(guard, check.__name__) for check in guard.CHECKS if check is not defence.off]
        monkeypatch.setattr(guard, "CHECKS", tuple(checks))
        async with attacked() as house:
            assert await defence.attack(house), "it fails although the defence is off: what stops it?"


def test_every_check_of_the_guard_has_its_attack() -> None:
    off = {defence.off for defence in DEFENCES} | {guard.check_origin}
    assert set(guard.CHECKS) <= off
