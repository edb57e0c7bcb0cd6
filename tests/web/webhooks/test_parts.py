"""The small parts: signatures, messages, delays, the key's file."""

import base64
import hashlib
import hmac
import json
import stat
from pathlib import Path

import pytest

from protocol.events import Frame
from web.places import Problem
from web.webhooks import webhook_key
from web.webhooks.message import event_message, own_message
from web.webhooks.retry import MAX_ATTEMPTS, MAX_DELAY_S, delay_s
from web.webhooks.signing import secret_of, shown, sign

MASTER = bytes(range(32))


def test_a_signature_is_the_one_of_the_standard_webhooks_specification() -> None:
    # The example of its reference libraries.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_rotated_secret_and_the_one_before_both_sign() -> None:
    new, old = (secret_of(MASTER, "whk_1", version) for version in (2, 1))
    signatures = sign([new, old], "m", 1, b"x")["webhook-signature"].split(" ")
    expected = [base64.b64encode(hmac.digest(key, b"m.1.x", hashlib.sha256)).decode() for key in (new, old)]
    assert [signature.removeprefix("v1,") for signature in signatures] == expected


def test_each_webhook_version_and_house_has_its_own_secret() -> None:
    made = {
        secret_of(master, webhook, version)
        for master in (MASTER, bytes(32)) for webhook in ("whk_1", "whk_2") for version in (1, 2)
    }  # fmt: skip
    assert len(made) == 8
    assert shown(b"\xff" * 32) == "whsec_" + base64.b64encode(b"\xff" * 32).decode()


def test_a_message_is_a_cloud_event_around_the_bytes_of_the_journal() -> None:
    wire = (
        b'{"seq":7,"engine_seq":2,"id":"9f3c01ab.7","type":"run.started","time":"2026-01-02T03:04:05.678Z",'
        b'"pool":"default","engine_id":"build","data":{"attempt":1,"x":"\xc3\xa4"}}'
    )
    message = event_message("9f3c01ab", Frame(event="run.started", id="9f3c01ab.7", data=wire))
    assert json.loads(message.body) == {
        "specversion": "1.0", "id": "9f3c01ab.7", "source": "urn:enginehouse:9f3c01ab",
        "type": "enginehouse.run.started", "subject": "build", "time": "2026-01-02T03:04:05.678Z",
        "datacontenttype": "application/json", "data": json.loads(wire),
    }  # fmt: skip
    assert wire in message.body
    assert (message.webhook_id, message.pool, message.engine) == ("msg_9f3c01ab_7", "default", "build")


def test_what_is_of_no_engine_has_no_subject() -> None:
    message = own_message("9f3c01ab", "test.1", "webhook.test", "2026-01-02T03:04:05.678Z", {"webhook": "whk_1"})
    assert "subject" not in json.loads(message.body)


def test_attempts_spread_over_about_a_day() -> None:
    delays = [delay_s(attempts, 0.5) for attempts in range(1, MAX_ATTEMPTS)]
    assert delays[:4] == [1, 3, 9, 27]
    assert max(delays) == MAX_DELAY_S
    assert 20 * 3600 < sum(delays) < 25 * 3600
    assert delay_s(10**6, 1.0) <= MAX_DELAY_S * 1.2


@pytest.mark.parametrize("asked, waited", [(None, 9.0), (2.0, 9.0), (60.0, 60.0), (1e9, MAX_DELAY_S)])
def test_a_receiver_may_ask_for_more_time_within_the_bound(asked: float | None, waited: float) -> None:
    assert delay_s(3, 0.5, asked) == waited


def test_delays_are_spread() -> None:
    assert delay_s(3, 0.0) == pytest.approx(7.2)
    assert delay_s(3, 1.0) == pytest.approx(10.8)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "webhook.key"
    first = webhook_key(path)
    assert (webhook_key(path), len(first)) == (first, 32)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_is_not_ours_alone_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "webhook.key"
    webhook_key(path)
    path.chmod(0o640)
    with pytest.raises(Problem, match=r"webhook\.key: "):
        webhook_key(path)
    path.chmod(0o600)
    for content in (b"", b"short", bytes(33)):
        path.write_bytes(content)
        with pytest.raises(Problem, match="32 bytes"):
            webhook_key(path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Problem):
        webhook_key(path)
    path.unlink()
    with pytest.raises(Problem):
        webhook_key(tmp_path / "missing" / "webhook.key")
