"""From what the house knows to what it shows: pure functions from views and records to the wire's shapes."""

from __future__ import annotations

from typing import Any

from actors.cell import Cell
from actors.mailbox import MailboxStatistics
from actors.processes import Tree
from actors.secrets import Secrets
from protocol.edge import as_json
from protocol.records import CommandRecord, DeadLetter
from protocol.requests import Request, RequestState
from protocol.runs import Run, RunStatus
from protocol.specs import Spec
from protocol.states import State
from protocol.times import epoch_ms, rfc3339
from protocol.view import View
from protocol.wire import (
    CommandInfo,
    Confinement,
    DeadLetterInfo,
    Disposed,
    EngineInfo,
    MailboxInfo,
    ProcessRow,
    ProcessTotal,
    ProcessTree,
    RequestInfo,
    RunInfo,
)

__all__ = ["command_info", "dead_letter_info", "disposed", "engine_info", "process_tree", "request_info", "run_info"]

COMMAND_CHARS = 4096
"""How much of a command line is shown."""

SPEC_FIELDS = tuple(name for name in Spec.__dataclass_fields__ if name in EngineInfo.__dataclass_fields__)
NO_MAIL = MailboxStatistics(0, 0, 0, 0, 0, 0, 0, 0, None)


def engine_info(
    view: View, cell: Cell | None, *, config: dict[str, Any], draining: bool, now: float, wall: float
) -> EngineInfo:
    """An engine as it is seen. `config`: with secrets masked; `now`, `wall`: monotonic and epoch seconds."""
    mail = cell.mailbox.statistics() if cell is not None else NO_MAIL
    active = view.active_run
    spec = {name: getattr(view.spec, name) for name in SPEC_FIELDS} | {"config": config}
    return EngineInfo(
        **spec,
        state=view.state.value,
        aim=view.aim.name.lower() if view.aim else None,
        busy=bool(view.runs),
        stalled=view.stalled,
        pause_slow=_pause_slow(view, cell, wall),
        draining=draining,
        waiting_for="place" if cell is not None and cell.waiting_for_place is not None else None,
        incarnation=view.incarnation,
        holds=list(view.holds.values()),
        mailbox=MailboxInfo(
            size=view.spec.mailbox_size,
            queued=mail.queued,
            in_flight=mail.in_hand,
            oldest_age_s=None if mail.oldest_at is None else round(now - mail.oldest_at, 3),
        ),
        active_run=active.id if active else None,
        restarts=view.restarts,
        last_exit=view.last_exit,
        created_at=view.created_at,
        state_since=view.state_since,
        engine_seq=view.engine_seq,
        seq=view.seq,
    )


def _pause_slow(view: View, cell: Cell | None, wall: float) -> str | None:
    """The step that keeps a pause from being reached, once its time has passed (0: it may take for ever)."""
    timeout_s = view.spec.pause_timeout_s
    if view.state is not State.PAUSING or not timeout_s or cell is None or cell.actor is None:
        return None
    return cell.actor.step if wall - epoch_ms(view.state_since) / 1000 > timeout_s else None


def run_info(run: Run, *, cell: Cell | None, mean_s: float, wall: float) -> RunInfo:
    """A run. `mean_s`: how long its engine's runs take, for the estimate; `wall`: epoch seconds."""
    started = epoch_ms(run.started_at) if run.started_at else None
    ended = epoch_ms(run.finished_at) if run.finished_at else round(wall * 1000)
    position = cell.mailbox.position(run.id) if cell is not None and run.status is RunStatus.QUEUED else None
    estimate = None
    if mean_s and not run.status.ended:
        ahead_s = mean_s * ((position or 0) + 1)
        in_hand = cell.runs.in_hand if cell is not None else None
        since_ms = started if started and run.status is not RunStatus.QUEUED else round(wall * 1000)
        if position is not None and in_hand is not None:
            ahead_s += mean_s
        estimate = rfc3339(since_ms + round(ahead_s * 1000))
    return RunInfo(
        id=run.id,
        engine_id=run.engine_id,
        pool=run.pool,
        status=run.status.value,
        priority=run.priority,
        input=run.input,
        result=run.result,
        error=run.error,
        labels=run.labels,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        elapsed_s=None if started is None else round((ended - started) / 1000, 3),
        queue_position=position,
        estimated_completion_at=estimate,
        attempts=run.attempts,
        usage=run.usage,
        digest=run.digest,
        retry_of=run.retry_of,
        cancelled_by=run.cancelled_by,
        reason=run.reason,
        command_id=run.command_id,
        output_bytes=run.output_bytes,
        seq=run.seq,
    )


def command_info(record: CommandRecord) -> CommandInfo:
    return CommandInfo(**{name: getattr(record, name) for name in CommandInfo.__dataclass_fields__})


def dead_letter_info(record: DeadLetter) -> DeadLetterInfo:
    return DeadLetterInfo(**{name: getattr(record, name) for name in DeadLetterInfo.__dataclass_fields__})


def request_info(request: Request, *, watched: bool) -> RequestInfo:
    names = RequestInfo.__dataclass_fields__.keys() - {"watched"}
    plain = {name: as_json(getattr(request, name)) for name in names}
    return RequestInfo(**plain, watched=watched if request.state is RequestState.PENDING else None)


def disposed(view: View) -> Disposed:
    return Disposed(
        id=view.spec.id, uid=view.spec.uid, state=view.state.value, leaks=view.leaks, dead_letters=view.dead_letters
    )


def process_tree(tree: Tree, secrets: Secrets) -> ProcessTree:
    """What runs in a tree and what holds it. Reads /proc: call it in a thread."""
    listing = tree.listing()
    rows = [
        ProcessRow(
            pid=p.pid, ppid=p.ppid, name=secrets.masked(p.name), command=_cut(secrets.masked(list(p.command))),
            state=p.status, threads=p.threads, cpu_s=p.cpu_s, cpu_percent=p.cpu_percent, rss_bytes=p.rss_bytes,
            started_at=rfc3339(round(p.started_at * 1000)),
        )
        for p in listing.processes
    ]  # fmt: skip
    total = ProcessTotal(
        processes=len(rows),
        threads=sum(row.threads for row in rows),
        cpu_s=round(listing.cpu_s, 3),
        cpu_percent=round(sum(row.cpu_percent for row in rows), 1),
        rss_bytes=sum(row.rss_bytes for row in rows),
    )
    held = tree.confined
    if held is None:
        return ProcessTree(items=rows, total=total)
    groups = tree.policy.groups
    confinement = Confinement(
        limits={name: value for name, value in as_json(held.limits).items() if value is not None},
        control_group=held.group,
        controllers=sorted(groups.controllers) if groups is not None else [],
        frozen_by="control-group" if held.freezes else "signals",
        killed_by="control-group" if held.kills else "signals",
        walled=held.walled,
    )
    return ProcessTree(items=rows, total=total, confinement=confinement)


def _cut(words: list[str]) -> list[str]:
    """As many of them as there is room for; the last one may be cut."""
    left, shown = COMMAND_CHARS, []
    for word in words:
        if left <= 0:
            break
        shown.append(word[:left])
        left -= len(word) + 1
    return shown
