"""Who is on the other side: whose word is taken, and how much of it."""

import os
import socket
from typing import Any

import pytest

from web.asgi import Receive, Scope, Send
from web.guard import Guard, Policy
from web.peer import FORWARDED_HOST, Proxies, address_of, credentials_of, group_of, seen_through

PROXIES = Proxies.named(["10.0.0.0/8", "fd00::/8"])
CLIENT = "198.51.100.7"


def scope_of(peer: str, *headers: tuple[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "client": (peer, 5),
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers)],
    }


def client_of(peer: str, *hops: str, proxies: Proxies = PROXIES) -> str:
    scope = scope_of(peer, *(("x-forwarded-for", hop) for hop in hops))
    seen_through(scope, proxies)
    return address_of(scope)


@pytest.mark.parametrize(
    "hops, client",
    [
        ([CLIENT], CLIENT),
        (["203.0.113.9, " + CLIENT], CLIENT),
        ([CLIENT + ", 10.2.2.2"], CLIENT),
        (["203.0.113.9, " + CLIENT + ", 10.2.2.2", "10.3.3.3"], CLIENT),
        (["10.9.9.9, 10.2.2.2"], "10.9.9.9"),
        (["junk, " + CLIENT], CLIENT),
        ([CLIENT + ", junk"], "10.1.1.1"),
        ([CLIENT + ", unknown, 10.2.2.2"], "10.2.2.2"),
        ([CLIENT + ":4711"], CLIENT),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["::ffff:" + CLIENT], CLIENT),
        (["fe80::1%eth0"], "10.1.1.1"),
        ([""], "10.1.1.1"),
        ([], "10.1.1.1"),
    ],
)
def test_the_rightmost_hop_that_is_no_trusted_proxy_is_the_client(hops: list[str], client: str) -> None:
    assert client_of("10.1.1.1", *hops) == client


def test_nobody_else_is_believed() -> None:
    for peer in ("192.0.2.1", "127.0.0.1", "unix:1000", "2001:db8::5", ""):
        forged = (("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https"), ("x-forwarded-host", "house.example"))
        scope = scope_of(peer, *forged)
        seen_through(scope, PROXIES)
        assert (address_of(scope), scope["scheme"], FORWARDED_HOST in scope) == (peer, "http", False)


def test_a_proxy_on_this_machine_is_the_default_of_who_stands_behind_one() -> None:
    for peer in ("127.0.0.1", "127.0.0.9", "::1", "unix:0"):
        assert client_of(peer, CLIENT, proxies=Proxies.here()) == CLIENT
    assert client_of("10.1.1.1", CLIENT, proxies=Proxies.here()) == "10.1.1.1"
    assert client_of("unix:0", CLIENT, proxies=Proxies.named(["unix"])) == CLIENT


@pytest.mark.parametrize(
    "sent, scheme", [(["https"], "https"), (["HTTPS"], "https"), (["https, http"], "http"), (["ftp"], "http")]
)
def test_the_scheme_is_the_one_that_the_nearest_proxy_names(sent: list[str], scheme: str) -> None:
    scope = scope_of("10.1.1.1", *(("x-forwarded-proto", value) for value in sent))
    seen_through(scope, PROXIES)
    assert scope["scheme"] == scheme


@pytest.mark.parametrize("name", ["10.0.0.1/8", "proxy.example", "*", "", "10.0.0.0/33", "unix:1000"])
def test_a_proxy_is_named_by_its_address(name: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Proxies.named([name])


@pytest.mark.parametrize(
    "address, group",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("unix:1000", "unix:1000"),
        ("", ""),
    ],
)
def test_of_ipv6_a_network_counts_as_one_address(address: str, group: str) -> None:
    assert group_of(address) == group


def test_the_kernel_says_who_is_at_the_other_end_of_a_unix_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = credentials_of(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())


async def through_guard(*headers: tuple[str, str], host: str = "localhost") -> tuple[int, Scope]:
    """The status, and the scope as an app would see it."""
    seen: list[Scope] = []
    statuses: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = scope_of("10.1.1.1", *headers)
    scope["headers"][0] = (b"host", host.encode())
    seen.append(scope)
    await Guard(app, Policy(hosts={"localhost", "house.example"}, proxies=PROXIES))(scope, receive, send)
    return statuses[0], seen[0]


async def test_origins_are_compared_with_what_the_browser_saw() -> None:
    told = (("x-forwarded-proto", "https"), ("x-forwarded-host", "house.example"))
    assert (await through_guard(*told, ("origin", "https://house.example")))[0] == 200
    assert (await through_guard(*told, ("origin", "http://localhost")))[0] == 403
    assert (await through_guard(("origin", "https://house.example")))[0] == 403


async def test_a_forwarded_host_must_be_ours_and_excuses_no_other_host() -> None:
    assert (await through_guard(("x-forwarded-host", "house.example")))[0] == 200
    assert (await through_guard(("x-forwarded-host", "evil.example")))[0] == 421
    assert (await through_guard(("x-forwarded-host", "house.example"), host="evil.example"))[0] == 421


async def test_the_guard_gives_the_app_the_client_behind_the_proxy() -> None:
    _, scope = await through_guard(("x-forwarded-for", CLIENT))
    assert scope["client"] == (CLIENT, 0)
