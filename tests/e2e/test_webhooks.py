"""Webhooks of a real daemon that is killed in the middle: nothing is missing, the order is kept, signatures verify."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

from supervisor import NewEngine, NewRun
from tests.e2e.daemons import running
from tests.e2e.receivers import receiving


async def test_a_webhook_gets_everything_in_order_through_kills_and_failures(tmp_path: Path) -> None:
    async with receiving() as received:
        received.status = lambda asked: 503 if asked % 17 == 5 else 200
        env = {"ENGINEHOUSE_WEBHOOKS__ALLOW": f"127.0.0.1:{received.port}"}
        async with running(tmp_path / "state", env=env) as daemon:
            async with daemon.client() as house:
                refused = f"http://127.0.0.1:{received.port + 1}/"
                made: Any = await house.call(
                    "POST", "webhooks", body={"url": f"http://127.0.0.1:{received.port}/in", "description": refused}
                )
                await house.spawn(NewEngine(kind="probe", id="e"))
            for kill in range(3):
                async with daemon.client() as house:
                    for number in range(4):
                        await house.submit("e", NewRun(input=f"{kill}-{number}"))
                before = len(received.took)
                await received.until(lambda before=before: len(received.took) >= before + 3)  # type: ignore[misc]  # bound
                await daemon.kill()
                await daemon.start()
            async with daemon.client() as house:
                last, _ = await house.submit("e", NewRun(input="last"), wait_s=30)
                await received.until(lambda: any(is_end_of(event, last.id) for event in received.events))
                page = await house.event_page(after=made["cursor"], limit=1000)
                shown: Any = await house.call("GET", "webhooks", made["id"])
            wanted = [item["id"] for item in page.items]
            firsts = list(dict.fromkeys(received.ids))
            assert firsts == wanted[: len(firsts)]
            assert shown["failing_since"] is None
            assert await daemon.stop() == 0
    secret = base64.b64decode(made["secret"].removeprefix("whsec_"))
    for headers, body in received.took:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert made["secret"].removeprefix("whsec_").encode() not in kept
    assert secret not in kept


def is_end_of(event: dict[str, Any], run: str) -> bool:
    return bool(event["type"] == "enginehouse.run.completed" and event["data"]["run_id"] == run)
