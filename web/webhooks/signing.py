"""Signatures of what is sent, in the form of the Standard Webhooks specification, so that its libraries verify them.

    Webhook-Id: msg_<era>_<seq>      Webhook-Timestamp: <Unix seconds>      Webhook-Signature: v1,<base64> [v1,<base64>]

A signature is the HMAC-SHA256 of `id.timestamp.body` over the very bytes of the body. Secrets are stored nowhere: each
is derived from the house's one webhook key, the webhook's id and the version of its secret. So none can be read out of
the journal, a backup or a log, and the house can still sign after a restart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["secret_of", "shown", "sign"]


def secret_of(master: bytes, webhook: str, version: int) -> bytes:
    """The 32 bytes that sign for a webhook."""
    return hmac.digest(master, f"enginehouse webhook secret\n{webhook}\n{version}".encode(), hashlib.sha256)


def shown(secret: bytes) -> str:
    """How a secret is handed over: `whsec_` and base64."""
    return f"whsec_{base64.b64encode(secret).decode('ascii')}"


def sign(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers, with one signature for each secret."""
    signed = b"%s.%d.%s" % (id.encode("ascii"), timestamp, body)
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode("ascii") for secret in secrets)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
