"""Turn one defence off and an attack succeeds that fails otherwise; else the defence would be for show, or its test.

In this process and over real sockets, on a virtual clock: so that a check can be broken, and a deadline be waited for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority
from supervisor import EmbeddedHouse, open_supervisor, standing, stream
from supervisor.intake import Intake
from tests.attack.forge import Forge, encoded
from tests.attack.wire import Answer, Line, request
from tests.mutation import Mutation, mutated
from tests.web.doubles import ADMIN, identity
from tests.web.test_server import serving
from web import bodies, guard, http1, perform, strict_json
from web.app import Api, create_app
from web.audit import Audited, Strangers
from web.auth import Failures, Identity, Keys, SigningKeys
from web.auth import credentials as presented
from web.auth.access import AccessTokens
from web.auth.clock import Forward
from web.auth.engine_tokens import EngineTokens
from web.auth.families import Families
from web.auth.identity import Login
from web.auth.keys import NewKey
from web.auth.logins import Logins
from web.auth.principal import Scope
from web.auth.rates import _Counted
from web.auth.tickets import Ticket, Tickets
from web.auth.users import NewUser
from web.connection import Connection
from web.guard import Guard, Policy
from web.limits import Limits
from web.peer import Proxies
from web.refusals import UserExists
from web.server import _Server
from web.streams import Streams

pytestmark = pytest.mark.filterwarnings("ignore")  # a broken server may leave anything behind

NEVER_S: Final = 200.0
"""Longer than any deadline that a client meets."""

LIMITS: Final = Limits(connections=8, address_connections=6)

RUNS: Final = "/api/v1/engines/a/runs"
ENGINES: Final = "/api/v1/engines"
KEYS: Final = "/api/v1/auth/keys"
EVENTS: Final = "/api/v1/events"
LISTED: Final = "https://app.example"
PASSWORD: Final = "a password of somebody"
JSON: Final = "Content-Type: application/json"


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


class House:
    """One that is attacked in this process. `wall`: its time of day, which an attack may set."""

    def __init__(self, port: int, app: Api, wall: list[float], embedded: EmbeddedHouse) -> None:
        self.port = port
        self.embedded = embedded
        self.app = app
        self.wall = wall

    @property
    def identity(self) -> Identity:
        return self.app.services.identity

    @property
    def keys(self) -> Keys:
        return self.identity.keys

    async def key(self, *pools: str, scopes: tuple[Scope, ...] = (Scope.READ, Scope.OPERATE)) -> str:
        """A new one, of all pools without any."""
        return (await self.keys.create(NewKey(name="k", scopes=list(scopes), pools=list(pools) or None))).key

    async def login(self) -> Login:
        """Of a user who administers, with a cookie."""
        with suppress(UserExists):
            await self.identity.users.create(NewUser(name="u", password=PASSWORD, scopes=[Scope.ADMIN]))
        return await self.identity.login("u", PASSWORD, address="127.0.0.1", cookie=True)

    async def forge(self) -> Forge:
        return Forge(self.identity.access.keys.current.secret, (await self.login()).access_token)

    async def admits(self, key: str) -> bool:
        return await self.ask("GET", "/api/v1/auth/whoami", key=key) == 200

    async def told(self, target: str, key: str = ADMIN) -> str:
        """The body of an answer; empty when it is a refusal."""
        sent = request("GET", target, f"Authorization: Bearer {key}", "Accept: application/json", host="localhost")
        answer = await self.send(sent)
        return answer.body.decode() if answer is not None and answer.status == 200 else ""

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
        who = identity(wall=lambda: wall[0], engines=EngineTokens(house.incarnation))
        app = create_app(house, identity=who, limits=LIMITS, audit=house)
        guard = Guard(app, Policy(origins=[LISTED], limits=LIMITS))
        served = Audited(guard, house, Strangers(house, wall=lambda: wall[0]))
        async with serving(served, limits=LIMITS) as (port, _):
            found = House(port, app, wall, house)
            await found.post(b'{"kind":"probe","id":"a"}', ENGINES)
            await found.post(b'{"id":"theirs"}', "/api/v1/pools")
            await found.post(b'{"kind":"probe","id":"b","pool":"theirs"}', ENGINES)
            await found.post(b'{"input":"hidden"}', "/api/v1/engines/b/runs")
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


# With tokens, cookies and tickets.


def signed(**change: Any) -> Attack:
    """A token that is signed as it should be, and wrong in this."""

    async def attack(house: House) -> bool:
        forge = await house.forge()
        return await house.admits(forge.sign(**change))

    return attack


async def unsigned(house: House) -> bool:
    return await house.admits((await house.forge()).sign(secret=b"x" * 43))


async def for_a_year(house: House) -> bool:
    forge = await house.forge()
    return await house.admits(forge.sign(claims={"exp": forge.claims["exp"] + 31_536_000}))


async def logged_out(house: House) -> bool:
    token = (await house.login()).access_token
    await house.ask("POST", "/api/v1/auth/logout", key=token)
    return await house.admits(token)


async def changed(house: House) -> bool:
    """A token from before the password was changed."""
    token = (await house.login()).access_token
    await house.ask("PATCH", "/api/v1/auth/users/u", JSON, body=b'{"password":"another long password"}')
    return await house.admits(token)


async def rotated(house: House) -> bool:
    token = (await house.login()).access_token
    await house.identity.rotate(at_once=True)
    return await house.admits(token)


async def refreshed(house: House, token: str) -> int:
    body = b'{"refresh_token":"%s"}' % token.encode()
    return await house.ask("POST", "/api/v1/auth/refresh", JSON, body=body, key=None)


async def stolen(house: House) -> bool:
    token = (await house.login()).refresh_token
    return [await refreshed(house, token) for _ in range(2)] == [200, 200]


async def ends_another_login(house: House) -> bool:
    """Somebody knows the name of a login, as an access token tells it, and wants it to be over."""
    login = await house.login()
    family = login.refresh_token.split("_")[1]
    await refreshed(house, f"ehr_{family}_{'x' * 43}_{'x' * 43}")
    return not await house.admits(login.access_token)


async def old_login(house: House) -> bool:
    token = (await house.login()).refresh_token
    house.wall[0] += 31 * 86_400
    return await refreshed(house, token) == 200


def cookie_of(value: str | None) -> str:
    return f"Cookie: enginehouse_session={value}"


async def by_cookie(house: House, *lines: str, method: str = "GET", body: bytes | None = None) -> int:
    lines = (*lines, cookie_of((await house.login()).cookie), *([JSON] if body else []))
    return await house.ask(method, ENGINES, *lines, body=body, key=None)


async def riding(house: House) -> bool:
    return await by_cookie(house, method="POST", body=b'{"kind":"probe"}') == 201


async def reading_over(house: House) -> bool:
    """A page of a listed origin has the browser send the cookie along."""
    return await by_cookie(house, f"Origin: {LISTED}") == 200


async def guessed_cookie(house: House) -> bool:
    family = ((await house.login()).cookie or "").split("_")[1]
    return await house.ask("GET", ENGINES, cookie_of(f"ehs_{family}_{'x' * 43}"), key=None) == 200


async def old_cookie(house: House) -> bool:
    cookie = (await house.login()).cookie
    house.wall[0] += 13 * 3600
    return await house.ask("GET", ENGINES, cookie_of(cookie), key=None) == 200


async def ticket(house: House, path: str) -> str:
    return house.identity.ticket(house.keys.principal(ADMIN), path)


async def presented_at(house: House, path: str, ticket: str) -> int:
    return await house.ask("GET", f"{path}?limit=1&ticket={ticket}", "Accept: application/json", key=None)


async def another_stream(house: House) -> bool:
    return await presented_at(house, EVENTS, await ticket(house, f"{ENGINES}/a/events")) == 200


async def late_ticket(house: House) -> bool:
    given = await ticket(house, EVENTS)
    await trio.sleep(60)
    return await presented_at(house, EVENTS, given) == 200


async def twice(house: House) -> bool:
    given = await ticket(house, EVENTS)
    return [await presented_at(house, EVENTS, given) for _ in range(2)] == [200, 200]


async def engines_token(house: House, engine: str = "a") -> str:
    """Of the incarnation that lives now."""
    spec = house.embedded.supervisor.view(engine).spec
    return house.identity.engines.mint(spec.uid, house.embedded.incarnation(spec.uid) or 0, spec.pool)


async def guessing_passwords(house: House) -> bool:
    await house.login()
    body = b'{"username":"u","password":"not the password"}'
    return {await house.ask("POST", "/api/v1/auth/login", JSON, body=body, key=None) for _ in range(15)} == {401}


async def under_many_names(house: House) -> bool:
    """Guesses that each say another address for themselves."""
    most = LIMITS.failures_per_min + 2
    found = {await house.ask("GET", ENGINES, f"X-Forwarded-For: 192.0.2.{n}", key=f"guess-{n}") for n in range(most)}
    return found == {401}


async def forged_engine(house: House) -> bool:
    said = (await engines_token(house)).rpartition("~")[0]
    return await house.admits(f"{said}~{encoded(bytes(32))}")


async def earlier_engine(house: House) -> bool:
    """Of an incarnation that is over."""
    token = await engines_token(house)
    await house.post(b'{"type":"stop"}', f"{ENGINES}/a/commands")
    await trio.sleep(5)
    return await house.admits(token)


# Of those who may something, and not everything.


async def other_engine(house: House) -> bool:
    return await house.told(f"{ENGINES}/b", await engines_token(house)) != ""


def looking(target: str, mark: str) -> Attack:
    """A key of one pool is told of another."""

    async def attack(house: House) -> bool:
        return mark in await house.told(target, await house.key("default"))

    return attack


async def listening(house: House) -> bool:
    """The same, as a stream."""
    line = await Line.open(house.port)
    key = await house.key("default")
    await line.send(request("GET", f"{ENGINES}/b/events", f"Authorization: Bearer {key}", host="localhost"))
    await line.more()
    line.close()
    return b" 200 " in line.received


async def founding(house: House) -> bool:
    """Whoever is bound to a pool makes others."""
    return await house.ask("POST", "/api/v1/pools", JSON, body=b'{"id":"more"}', key=await house.key("default")) == 201


async def revoked_on_the_way(house: House) -> bool:
    """The key was good when the request began, and is revoked before its body has come."""
    key = await house.key(scopes=(Scope.ADMIN,))
    line = await Line.open(house.port)
    body = b'{"name":"late","scopes":["admin"]}'
    sent = request("POST", KEYS, JSON, f"Authorization: Bearer {key}", body=body, host="localhost")
    await line.send(sent[: 1 - len(body)])
    await trio.sleep(1)
    await house.keys.revoke(key.split("_")[1])
    await line.send(body[1:])
    answer = await line.answer()
    line.close()
    return answer is not None and answer.status == 201


def unseen(body: bytes, scopes: tuple[Scope, ...]) -> Attack:
    """Something is asked for, and nothing is written of who asked."""

    async def attack(house: House) -> bool:
        key = await house.key(scopes=scopes)
        await house.ask("POST", f"{ENGINES}/a/commands", JSON, body=body, key=key)
        return f"key:{key.split('_')[1]}" not in await house.told("/api/v1/admin/audit")

    return attack


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
    off("any number of guesses", Failures, "counted", "if wait_s:", "if False:", guessing),
    off("any secret of a known key", Keys, "principal", "not hmac.compare_digest(digest, stored.digest)", "False", guessed),
    off("expired keys", Keys, "_expired", "expires_at is not None and", "False and", expired),
    off("a clock that goes back", Forward, "__call__", "max(self._latest, self._wall())", "self._wall()", clock_set_back),
    off("revoked keys", Keys, "revoke", "self._keys.pop(id, None)", "self._keys.get(id)", revoked),
    off("no key at all", Identity, "admit", "if self.enable_auth:\n        raise Unauthenticated(\"Send", "if False:\n        raise Unauthenticated(\"Send", nobody),
    off("any signature", AccessTokens, "verify", "jws.deserialize_compact(", "(lambda token, *_, **__: type('S', (), {'payload': _decoded(token.split('.')[1])}))(", unsigned),
    off("any header", AccessTokens, "_key", "read != {", "False and {", signed(header={"typ": "JWT"})),
    off("any claims", AccessTokens, "_claims", "set(claims) != {*_TIMES, *_TEXTS}", "False", signed(claims={"scope": "admin"})),
    off("any issuer", AccessTokens, "_claims", ', "value": _ISSUER', "", signed(claims={"iss": "another"})),
    off("any audience", AccessTokens, "_claims", ', "value": _AUDIENCE', "", signed(claims={"aud": "another"})),
    off("any life of a token", AccessTokens, "_claims", '<= claims["iat"] + ACCESS_S', "", for_a_year),
    off("keys that signed once", SigningKeys, "rotated", "None if at_once else", "", rotated),
    off("another subject", Identity, "_bearer", "family.subject != said.subject", "False", signed(claims={"sub": "key:admin"})),
    off("logins that are over", Families, "revoke", "self._families.pop(id, None)", "self._families.get(id)", logged_out),
    off("accounts that changed", Families, "_lives", "self._mark_of(family.subject) == family.mark", "True", changed),
    off("refresh tokens twice", Families, "refresh", "if not _same(match[3], family.current):", "if False:", stolen),
    off("invented refresh tokens", Families, "refresh", "or not _same(match[2], family.root)", "", ends_another_login),
    off("old logins", Families, "_lives", "self._now() < family.ends", "True", old_login),
    off("cookies that change things", presented, "cookie_of", 'scope["method"] not in {"GET", "HEAD"}', "False", riding),
    off("cookies for other pages", presented, "cookie_of", "or not _same_origin(scope)", "", reading_over),
    off("any cookie of a login", Families, "of_cookie", "or not _same(match[2], family.cookie)", "", guessed_cookie),
    off("old cookies", Families, "check_cookie", "<= self._now()", "<= 0", old_cookie),
    off("tickets for any stream", Ticket, "admits", "path != self.path or", "", another_stream),
    off("old tickets", Ticket, "admits", "or trio.current_time() > self.until", "", late_ticket),
    off("tickets twice", Tickets, "take", "del self._tickets[ticket.digest]", "pass", twice),
    off("any number of logins", Logins, "attempt", "if wait_s:", "if False:", guessing_passwords),
    off("anybody as a proxy", Proxies, "trusts", "if not self.networks:\n        return False", "if not self.networks:\n        return True", under_many_names),
    off("any origin as a listed one", guard, "check_origin", 'origins[0].decode("latin-1") in policy.origins', "True", foreign_origin),
    off("any engine's token", EngineTokens, "principal", "or not hmac.compare_digest(match[5], self._mac(match[1]))", "", forged_engine),
    off("tokens of engines that ended", EngineTokens, "principal", "if self.alive(uid) != incarnation:", "if False:", earlier_engine),
    off("engines that see others", Authority, "sees", "return uid == self.engine", "return True", other_engine),
    off("any pool", Authority, "sees", "self.pools is None or pool in self.pools", "True", looking(f"{ENGINES}/b", '"b"')),
    off("any pool in lists", EmbeddedHouse, "list", "if not self._sees(view.spec.pool, uid):", "if False:", looking(ENGINES, '"theirs"')),
    off("any pool in lists of runs", EmbeddedHouse, "_records", "elif seen is not None and seen.pools is not None:", "elif False:", looking("/api/v1/runs", '"hidden"')),
    off("any pool in lists of pools", EmbeddedHouse, "pools", "if self._sees(pool.spec.id)", "", looking("/api/v1/pools", '"theirs"')),
    off("any pool in events", stream, "visible", "if authority is not None and not (", "if False and not (", looking(f"{EVENTS}?limit=1000&after=0", '"theirs"')),
    off("any pool in streams", stream.Stream, "_sees", "return self._authority is None or", "return True or", listening),
    off("bound keys for the whole house", standing, "check_standing", "authority.require_everywhere()", "pass", founding),
    off("keys that are revoked on the way", perform, "_check", "principal.check()", "pass", revoked_on_the_way),
    off("commands without their rows", Intake, "_taken", "() if trail is None else", "() if trail is None or not setattr(trail, 'taken', True) else", unseen(b'{"type":"pause"}', (Scope.OPERATE,))),
    off("refusals without their rows", Audited, "_settle", "if trail.taken:", "if True:", unseen(b'{"type":"pause"}', (Scope.READ,))),
    off("two keys", presented, "presented_key", "if len(found) > 1 or", "if", two_keys),
    off("any scope", perform, "_check", "principal.require(scope)", "pass", climbing),
    off("any rate", _Counted, "enter", "if wait_s:", "if False:", polling),
    off("any number of streams", Streams, "admit", "if self._open[principal.name] >= most:", "if False:", hoarding),
]  # fmt: skip


@pytest.mark.torture
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


@pytest.mark.parametrize("defence", [one for one in DEFENCES if isinstance(one.off, Mutation)], ids=str)
def test_a_defence_is_where_it_is_switched_off(defence: Defence) -> None:
    """Else the long test would come to grief over it long after the change."""
    assert isinstance(defence.off, Mutation)
    with mutated(defence.off):
        pass


def test_every_check_of_the_guard_has_its_attack() -> None:
    off = {defence.off for defence in DEFENCES} | {guard.check_origin}
    assert set(guard.CHECKS) <= off
