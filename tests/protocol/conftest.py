"""Rows as the house writes them, for one engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from protocol.edge import as_json
from protocol.events import Row
from protocol.specs import Spec

SPEC = Spec(id="walker", uid="eng_1", pool="default", kind="probe", config={"steps": 2}, labels={"team": "a"})
QUEUED = {"input": {"n": 1}, "priority": "normal", "labels": {}, "timeout_s": None, "queue_ttl_s": None}


class Writer:
    """Makes rows of one engine, numbered as a store would."""

    def __init__(self) -> None:
        self.seq = 0

    def __call__(self, type: str, data: dict[str, Any] | None = None, **more: Any) -> Row:
        self.seq += 1
        time = f"2025-03-01T10:{self.seq // 60:02d}:{self.seq % 60:02d}.000Z"
        made = Row(type=type, time=time, data=data or {}, uid="eng_1", engine_id="walker", pool="default", **more)
        made.commit(self.seq, self.seq, made.numbered("00c0ffee", self.seq, self.seq))
        made.data = json.loads(made.wire)["data"]  # what a store gives back is what JSON keeps
        return made

    def spawned(self) -> Row:
        return self("engine.spawned", {"spec": as_json(SPEC)}, command_id="cmd_0")

    def queued(self, run_id: str = "run_1", command_id: str = "cmd_1", **data: Any) -> Row:
        return self(
            "run.queued", {**QUEUED, "retry_of": None, **data}, run_id=run_id, command_id=command_id, principal="ann"
        )

    def opened(self, request_id: str = "req_1", run_id: str | None = "run_1", **data: Any) -> Row:
        asked = {
            "request_id": request_id,
            "kind": "approval",
            "title": "May I?",
            "detail": "",
            "options": [
                {"id": "yes", "kind": "allow_once", "label": "Yes"},
                {"id": "no", "kind": "reject_once", "label": "No"},
            ],
            "schema": None,
            "digest": "d" * 64,
            "deadline": None,
            "default": None,
        }
        return self("request.opened", asked | data, run_id=run_id)


@pytest.fixture
def row() -> Writer:
    return Writer()


@pytest.fixture(scope="session")
def writer() -> Callable[[], Writer]:
    """For tests that need a fresh one for each example."""
    return Writer
