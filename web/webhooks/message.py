"""What is sent: one CloudEvent (1.0, structured JSON) for each event, around the very bytes of the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from protocol.events import Frame, encode

__all__ = ["CONTENT_TYPE", "Message", "event_message", "own_message"]

CONTENT_TYPE: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Message:
    """`id`: of the CloudEvent; `type`: without our prefix; `pool`, `engine`: what it is about (None: the house)."""

    id: str
    type: str
    pool: str | None
    engine: str | None
    body: bytes

    @property
    def webhook_id(self) -> str:
        """The same for every attempt. Signatures are taken over dots, so it holds none."""
        return f"msg_{self.id.replace('.', '_')}"


def event_message(era: str, frame: Frame) -> Message:
    """A durable event."""
    assert frame.id is not None
    envelope = json.loads(frame.data)
    pool, engine = envelope.get("pool"), envelope.get("engine_id")
    return Message(
        frame.id, frame.event, pool, engine, _body(era, frame.id, frame.event, engine, envelope["time"], frame.data)
    )


def own_message(era: str, id: str, type: str, time: str, data: Any) -> Message:
    """What the webhook itself has to say: a gap, a test."""
    return Message(id, type, None, None, _body(era, id, type, None, time, encode(data)))


def _body(era: str, id: str, type: str, engine: str | None, time: str, data: bytes) -> bytes:
    head: dict[str, str] = {
        "specversion": "1.0",
        "id": id,
        "source": f"urn:enginehouse:{era}",
        "type": f"enginehouse.{type}",
        "time": time,
        "datacontenttype": "application/json",
    }
    if engine is not None:
        head["subject"] = engine
    return encode(head)[:-1] + b',"data":' + data + b"}"
