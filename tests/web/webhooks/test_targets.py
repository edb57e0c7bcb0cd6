"""Where webhooks may go: what is not public is refused in every form in which it can be written."""

from ipaddress import ip_address

import pytest
import trio

from web.webhooks.targets import TargetRefused, Targets, is_public


def targets(*allow: str, **names: list[str]) -> Targets:
    """Targets with a resolver that knows these names (dots as underscores)."""

    async def resolve(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        try:
            return names[host.replace(".", "_")]
        except KeyError:
            raise OSError("unknown name") from None

    return Targets(allow, resolve=resolve)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "168.63.129.16", "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1",
        "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_known(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_what_is_public_is_known(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://a.example/", "//a.example/", "a.example", "http:/a.example", "http:///x", "file:///etc/passwd",
        "gopher://a.example:6379/_", "http://user@a.example/", "http://user:secret@a.example/", "http://@a.example/",
        "https://a.example#@b.example/", "https://a.example/#x", "http://a.example\\@b.example/", "http://a b.example/",
        "http://a.example/\n", "http://a.example/\x00", "http://ä.example/", "http://a.example:0/",
        "http://a.example:65536/", "http://a.example:-1/", "http://a.example:x/", "http://[::1/", "http://::1/",
        "http://[fe80::1%25eth0]/", "http://a..example/", "http://-/ /", "http://a.example,b.example/", "http://*/",
        "javascript:alert(1)", " http://a.example/", "http://a%2eexample/",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        targets().parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://localhost/", "http://LOCALHOST./", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "http://[::]/",
        "http://169.254.169.254/latest/meta-data/", "http://inside.example/", "http://mapped.example/",
        "http://scoped.example/", "http://nowhere.example/", "http://public.example:22/", "http://public.example:25/",
        "http://8.8.8.8:53/",
    ],
)  # fmt: skip
async def test_what_leads_inside_is_refused_however_it_is_written(url: str) -> None:
    inside = ["127.0.0.1"]
    known = targets(
        inside_example=["10.0.0.7"], mapped_example=["::ffff:10.0.0.7"], scoped_example=["fe80::1%eth0"],
        public_example=["8.8.8.8"], localhost=inside, LOCALHOST_=inside, localhost_=inside, **{
            "127_1": inside, "2130706433": inside, "0x7f000001": inside, "0177_0_0_1": inside,
        },
    )  # fmt: skip
    with pytest.raises(TargetRefused):
        await known.check(url)


async def test_public_names_and_addresses_are_given_out() -> None:
    known = targets(hooks_example=["93.184.216.34", "93.184.216.34", "10.0.0.1", "2606:4700::1111"])
    target = known.parse("https://hooks.example/in?x=1")
    assert (target.host, target.port) == ("hooks.example", 443)
    # of a name with several addresses those that are public, each once
    assert await known.addresses(target) == ["93.184.216.34", "2606:4700::1111"]
    await known.check("http://8.8.8.8:8080/")


async def test_what_is_allowed_is_allowed_at_its_port_alone() -> None:
    known = targets("127.0.0.1:9000", "10.0.0.0/8", "[fd00::/8]:25", "::1", inside_example=["10.1.2.3"])
    for url in (
        "http://127.0.0.1:9000/", "http://[::ffff:127.0.0.1]:9000/", "http://10.9.9.9/", "http://inside.example:8080/",
        "http://[fd00::1]:25/", "http://[::1]:3000/",
    ):  # fmt: skip
        await known.check(url)
    for url in (
        "http://127.0.0.1:9001/", "http://127.0.0.2:9000/", "http://10.9.9.9:22/", "http://[fd00::1]:80/",
        "http://[::1]:22/",
    ):  # fmt: skip
        with pytest.raises(TargetRefused):
            await known.check(url)


@pytest.mark.parametrize("text", ["", "localhost:9000", "10.0.0.0/33", "10.0.0.1/8", "1.2.3.4:0", "1.2.3.4:99999", "*"])
def test_what_cannot_be_allowed_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        targets(text)


async def test_a_name_that_takes_too_long_is_refused(autojump_clock: object) -> None:
    async def never(host: str, port: int) -> list[str]:
        await trio.sleep_forever()

    with pytest.raises(TargetRefused, match="cannot be resolved"):
        await Targets(resolve=never).check("http://slow.example/")
