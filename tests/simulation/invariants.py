"""The promises of the house, checked from outside the engines: over the journal, over what clients and readers saw, and
over the cells once they are at rest.

Each function yields one sentence for each violation, and begins it with the number of the promise. An `assert` inside
an engine would be taken for a crash, so nothing here runs there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from actors.cell import Cell
from protocol.events import RUN_ENDS, SETTLING, Row
from protocol.fold import fold, fold_all
from protocol.runs import RUN_MOVES, Run, RunStatus, fold_run
from protocol.states import EVENT_OF, IllegalMove, State, Trigger, next_state
from protocol.times import epoch_ms
from protocol.view import View
from supervisor.store.audit import verify_chain, verify_records
from supervisor.store.memory import MemoryStore
from supervisor.stream import visible
from tests.simulation.readers import Reader
from tests.simulation.world import Ack, World

__all__ = ["ALLOWED_WHILE_PAUSED", "at_rest", "audit", "bounded", "journal", "moves", "told", "views", "written_down"]

Violations = Iterator[str]

ENDS_ACTOR = (Trigger.PARK, Trigger.SLEPT, Trigger.ENDED, Trigger.DISPOSED, Trigger.CRASHED, Trigger.GAVE_UP)
ALLOWED_WHILE_PAUSED = (
    *SETTLING, *RUN_ENDS, "command.accepted", "run.queued", "run.interrupted", "engine.held", "engine.stalled",
    "request.decided", "request.expired", "request.withdrawn", "request.voided", "request.escalated",
    "dead_letter.added", "dead_letter.redelivered", "dead_letter.discarded", "state.patched", "probing.cleanup",
)  # fmt: skip
"""What may be written between `paused` and what ends it: work that comes in or is withdrawn, and decisions."""

AFTER_DISPOSED = (*SETTLING, "command.accepted", "run.queued", "run.cancelled", "dead_letter.redelivered",
                  "dead_letter.discarded")  # fmt: skip
"""What was accepted before the disposal was delivered still gets its end; dead letters are looked after later."""


def by_engine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.uid:
            found[row.uid].append(row)
    return dict(found)


# -- over the journal -------------------------------------------------------------------------------------------------
def journal(rows: Sequence[Row], boundaries: Sequence[int]) -> Violations:
    """All that the journal alone can show. `boundaries`: the `seq` at which each life of the house began."""
    yield from gapless(rows)
    for uid, own in by_engine(rows).items():
        for check in (
            commands,
            runs,
            one_in_hand,
            order,
            again_first,
            requests,
            paused,
            held_never_boots,
            disposed,
            exits,
        ):
            for violation in check(own):
                yield f"{violation} ({own[0].engine_id} {uid[-4:]})"
        for violation in (*legal(own, boundaries), *intensity(own, boundaries)):
            yield f"{violation} ({own[0].engine_id} {uid[-4:]})"


def gapless(rows: Sequence[Row]) -> Violations:
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        yield "I5 seq is not dense"
    for uid, own in by_engine(rows).items():
        if [row.engine_seq for row in own] != list(range(1, len(own) + 1)):
            yield f"I5 engine_seq of {own[0].engine_id} {uid} is not dense"


def moves(own: Sequence[Row], boundaries: Sequence[int]) -> Iterator[tuple[Row, State, Trigger, bool]]:
    """Every row that moves the engine: (row, state before, trigger, whether it had an actor)."""
    state, actor, lives = State.STOPPED, False, iter([*boundaries, 1 << 62])
    life = next(lives)
    for row in own:
        while row.seq > life:
            actor, life = False, next(lives)
        trigger = trigger_of(row, state)
        if trigger is None:
            continue
        yield row, state, trigger, actor
        if trigger is Trigger.BOOT:
            actor = True
        elif trigger in ENDS_ACTOR:
            actor = False
        state = next(new for known, new in STATE_OF.items() if known == row.type)


STATE_OF = {
    "engine.starting": State.STARTING, "engine.started": State.RUNNING, "engine.pausing": State.PAUSING,
    "engine.paused": State.PAUSED, "engine.resumed": State.RUNNING, "engine.stopping": State.STOPPING,
    "engine.dormant": State.DORMANT, "engine.stopped": State.STOPPED, "engine.disposed": State.DISPOSED,
    "engine.crashed": State.BACKING_OFF, "engine.failed": State.FAILED,
}  # fmt: skip


def trigger_of(row: Row, state: State) -> Trigger | None:
    if row.type == "engine.paused":
        return Trigger.PARK if "cause" in row.data else Trigger.QUIET
    if row.type == "engine.stopping" and state is State.STOPPING:
        return None  # the aim was raised
    return next((t for t, event in EVENT_OF.items() if event == row.type and t is not Trigger.PARK), None)


def legal(own: Sequence[Row], boundaries: Sequence[int]) -> Violations:
    aim: int = 0
    for row, state, trigger, actor in moves(own, boundaries):
        try:
            after = next_state(state, trigger, actor=actor)
        except IllegalMove as illegal:
            yield f"I6 {row.seq}: {illegal}"
            continue
        if STATE_OF[row.type] is not after:
            yield f"I6 {row.seq}: {trigger} leads to {after}, the row says {row.type}"
    ranks = {"dormant": 1, "restart": 2, "parked": 3, "stopped": 4, "disposed": 5}
    for row in own:
        if row.type == "engine.stopping":
            rank = ranks[row.data["aim"]]
            if rank <= aim:
                yield f"I6 {row.seq}: the aim did not rise"
            aim = rank
        elif row.type in STATE_OF:
            aim = 0


def intensity(own: Sequence[Row], boundaries: Sequence[int]) -> Violations:
    spec = own[0].data["spec"]["restart"]
    times: list[int] = []
    lives = iter([*boundaries, 1 << 62])
    life = next(lives)
    for row, state, trigger, _ in moves(own, boundaries):
        while row.seq > life:
            times, life = [], next(lives)
        if state is State.FAILED and trigger in (Trigger.BOOT, Trigger.PARK):
            times = []
        if trigger is Trigger.CRASHED:
            at = epoch_ms(row.time)
            times = [*(t for t in times if t > at - spec["window_s"] * 1000 + 1), at]
            if len(times) > spec["max_restarts"]:
                yield f"I14 {row.seq}: {len(times)} restarts in {spec['window_s']} s, {spec['max_restarts']} allowed"


def commands(own: Sequence[Row]) -> Violations:
    """Each is accepted once and has at most one end, after that; nothing ends that was not accepted."""
    accepted: dict[str, Row] = {}
    settled: set[str] = set()
    cancels: dict[str, int] = {}
    for row in own:
        name = row.command_id or ""
        if row.type == "command.accepted":
            if name in accepted:
                yield f"I2 {row.seq}: {name} was accepted twice"
            accepted[name] = row
        elif row.type in SETTLING:
            if name not in accepted:
                yield f"I3 {row.seq}: {row.type} of a command that was never accepted"
            elif name in settled:
                yield f"I28 {row.seq}: {accepted[name].data['type']} {name} has a second end"
            settled.add(name)
            if name in accepted and accepted[name].data["type"] == "cancel" and row.data.get("changed"):
                run_id = accepted[name].data["run_id"]
                if run_id is not None:
                    cancels[run_id] = row.seq
        elif row.command_id is not None and name not in accepted and row.type not in ("engine.spawned", "run.queued"):
            yield f"I3 {row.seq}: {row.type} names a command that was never accepted"
        if row.type == "run.started" and row.run_id in cancels:
            yield f"I1 {row.seq}: {row.run_id} started after its cancel was completed ({cancels[row.run_id]})"


def runs(own: Sequence[Row]) -> Violations:
    """Each run moves along its table, and only the one in hand does anything."""
    known: dict[str, Run] = {}
    ended: set[str] = set()
    keys: Counter[str] = Counter()
    for row in own:
        name = row.run_id
        if name is None or row.type in SETTLING or row.type.startswith(("dead_letter.", "command.")):
            continue
        if name in ended:
            if row.type != "request.used":
                yield f"I3 {row.seq}: {row.type} after the end of {name}"
            continue
        before = known[name].status if name in known else None
        run = fold_run(known.get(name), row)
        if run is None:
            yield f"I3 {row.seq}: {row.type} of a run that was never queued"
            continue
        known[name] = run
        if before is None:
            if run.retry_of is None:
                keys[str(run.input)] += 1
        elif run.status is not before and run.status not in RUN_MOVES[before]:
            yield f"I6 {row.seq}: run {before} -> {run.status}"
        elif row.type.startswith(ACTIONS) and before not in IN_HAND:
            yield f"I3 {row.seq}: {row.type} of a run that is {before}"
        if row.type in RUN_ENDS:
            ended.add(name)
            del known[name]
    yield from (f"I2 {key} became {count} runs" for key, count in keys.items() if count > 1)


IN_HAND = (RunStatus.RUNNING, RunStatus.WAITING)
ACTIONS = ("probing.step", "probing.answered", "request.opened")
"""What only a run in hand does."""


def one_in_hand(own: Sequence[Row]) -> Violations:
    """A run starts when no other is in hand; one that was interrupted is dealt with before anything else; and none
    fails but for what its author did.
    """
    known: dict[str, Run | None] = {}
    for row in own:
        if row.run_id is None or not row.type.startswith(("run.", "request.")):
            continue
        others = [run.status for other, run in known.items() if run is not None and other != row.run_id]
        known[row.run_id] = None if row.type in RUN_ENDS else fold_run(known.get(row.run_id), row)
        if row.type == "run.started" and any(status in IN_HAND for status in others):
            yield f"I3 {row.seq}: {row.run_id} started while another run was in hand"
        if RunStatus.INTERRUPTED in others:
            yield f"I3 {row.seq}: {row.type} while another run rests interrupted"
        slug = (row.data.get("error") or {}).get("slug")
        if row.type == "run.failed" and slug not in ("interrupted", "probing", "request-expired"):
            yield f"I15 {row.seq}: a run failed of {row.data.get('error')}"


def order(own: Sequence[Row]) -> Violations:
    """Acceptance order among the runs of one priority (first starts), among signals, and among control commands."""
    accepted: dict[str, tuple[int, dict[str, Any]]] = {}
    lanes: dict[str, int] = defaultdict(int)
    first: set[str] = set()
    for row in own:
        if row.type == "command.accepted":
            accepted[row.command_id or ""] = (row.seq, row.data)
            continue
        seq, body = accepted.get(row.command_id or "", (0, {}))
        lane = None
        if row.type == "run.started" and row.run_id not in first:
            first.add(row.run_id or "")
            if body.get("on_busy") in ("enqueue", "reject"):
                lane = f"{body['priority']} runs"
        elif row.type in ("command.completed", "command.dead_lettered") and body.get("type") == "signal":
            lane = "signals"
        elif row.type in SETTLING and body.get("type") in ("pause", "stop", "dispose", "reply", "approve", "reject"):
            lane = "control"
        if lane is not None:
            if seq < lanes[lane]:
                yield f"I4 {row.seq}: {lane} out of order, {seq} after {lanes[lane]}"
            lanes[lane] = max(lanes[lane], seq)


def again_first(own: Sequence[Row]) -> Violations:
    """A run that was interrupted goes before all others of its priority."""
    normal = {
        row.run_id
        for row in own
        if row.type == "command.accepted" and row.data["type"] == "submit"
        and (row.data["priority"], row.data["on_busy"]) in (("normal", "enqueue"), ("normal", "reject"))
    }  # fmt: skip
    again: str | None = None
    for row in own:
        if row.type == "run.queued" and row.data.get("again"):
            again = row.run_id
        elif row.type in RUN_ENDS and row.run_id == again:
            again = None
        elif row.type == "run.started":
            if row.run_id == again or again not in normal:
                again = None
            elif row.run_id in normal:
                yield f"I4 {row.seq}: {row.run_id} started before the interrupted {again}"


def requests(own: Sequence[Row]) -> Violations:
    ends: dict[str, str] = {}
    opened: set[str] = set()
    for row in own:
        if row.type == "request.opened":
            opened.add(row.data["request_id"])
        elif row.type in ("request.decided", "request.expired", "request.withdrawn"):
            name = row.data["request_id"]
            if name not in opened:
                yield f"I16 {row.seq}: {row.type} of a request that was never opened"
            if name in ends:
                yield f"I16 {row.seq}: {row.type} after {ends[name]}"
            ends[name] = row.type
        elif row.type == "request.used" and ends.get(row.data["request_id"]) != "request.decided":
            yield f"I17 {row.seq}: an answer was used that nobody gave"


def paused(own: Sequence[Row]) -> Violations:
    """Nothing is taken, started or done between `paused` and what ends it."""
    since = 0
    signals: set[str] = set()
    for row in own:
        if row.type == "engine.paused":
            since = row.seq
        elif row.type in STATE_OF:
            since = 0
        elif row.type == "command.accepted" and row.data["type"] == "signal":
            signals.add(row.command_id or "")
        if not since or row.type == "engine.paused":
            continue
        if row.type not in ALLOWED_WHILE_PAUSED:
            yield f"I11 {row.seq}: {row.type} since paused ({since})"
        if row.type == "command.completed" and row.command_id in signals:
            yield f"I11 {row.seq}: a signal was handled since paused ({since})"


def held_never_boots(own: Sequence[Row]) -> Violations:
    holds: list[Any] = []
    for row in own:
        if row.type == "engine.held":
            holds = row.data["holds"]
        elif row.type == "engine.starting" and holds:
            yield f"I11 {row.seq}: it booted while held by {[hold['holder'] for hold in holds]}"
        elif row.type == "engine.disposed":
            holds = []


def disposed(own: Sequence[Row]) -> Violations:
    """Disposed is the end: nothing is pending, owed or open then, and nothing follows but the ends of late commands."""
    over: View | None = None
    view: View | None = None
    for row in own:
        view = fold(view, row)
        if row.type == "engine.disposed":
            over = view
            late = [run.id for run in view.runs.values() if run.status is RunStatus.QUEUED and not run.attempts]
            if len(late) < len(view.runs) or view.requests:
                yield f"I13 {row.seq}: disposed with runs {list(view.runs)} and requests {list(view.requests)}"
        elif over is not None and row.type not in AFTER_DISPOSED:
            yield f"I13 {row.seq}: {row.type} after disposed"
    if over is not None and view is not None and (view.owed or view.runs):
        yield f"I28 disposed and still owes {[owed.type for owed in view.owed.values()]}"


def exits(own: Sequence[Row]) -> Violations:
    """An engine crashes because its author's code did: everything else that an actor died of is a bug."""
    for row in own:
        ended = (row.data.get("exit") or {}) if row.type.startswith("engine.") else {}
        for error in ended.get("error"), ended.get("cleanup_error"):
            known = ("Boom", "as it was told", "TimeoutError: on_start", "the house went away")
            if error is not None and not error.startswith(known):
                yield f"I15 {row.seq}: an actor died of {error}"


# -- what clients and readers were told -------------------------------------------------------------------------------
def told(world: World, rows: Sequence[Row]) -> Violations:
    """Acknowledged is durable, one effect per key, and each visible event once and in order."""
    accepted = {row.command_id: row for row in rows if row.type == "command.accepted"}
    by_key: dict[tuple[str, str], str] = {}
    for ack in world.acks:
        yield from _acknowledged(ack, accepted.get(ack.command_id))
        if ack.key is not None:
            first = by_key.setdefault((ack.principal, ack.key), ack.command_id)
            if first != ack.command_id:
                yield f"I2 {ack.type} under {ack.key} is {first} and {ack.command_id}"
    payloads = Counter(
        row.data["payload"] for row in rows
        if row.type == "command.accepted" and row.data["type"] == "signal" and row.principal is not None
    )  # fmt: skip
    redelivered = {row.data.get("id") for row in rows if row.type == "dead_letter.redelivered"}
    if not redelivered:
        yield from (f"I2 signal {payload} was accepted {n} times" for payload, n in payloads.items() if n > 1)


def written_down(world: World, rows: Sequence[Row]) -> Violations:
    """Each request left one audit row at the most, and has one once it was answered; a command under a key was
    accepted in the write that says so.
    """
    audit = [row for row in rows if row.type.startswith("audit.")]
    times = Counter(row.data.get("request_id") for row in audit)
    yield from (f"I23 request {name} left {n} audit rows" for name, n in times.items() if n > 1 and name)
    yield from (f"I23 request {name} was answered and left no audit row" for name in world.audited if not times[name])
    commands = {row.command_id for row in audit if row.type == "audit.accepted"}
    keyed = {ack.command_id for ack in world.acks if ack.key is not None}
    for row in rows:
        if row.type == "command.accepted" and row.command_id in keyed - commands:
            yield f"I23 {row.data['type']} {row.command_id} was accepted and left no audit row"


def _acknowledged(ack: Ack, row: Row | None) -> Violations:
    if row is None:
        yield f"I1 {ack.type} {ack.command_id} was acknowledged and is not in the journal"
    elif row.seq > ack.seq + 1 or row.data["type"] != ack.type:
        yield f"I1 {ack.type} at {ack.seq} was acknowledged and is {row.data['type']} at {row.seq}"


def read(reader: Reader, world: World, rows: Sequence[Row]) -> Violations:
    """`reader` has seen each visible row after its first place, once and in order, as it is in the journal."""
    if reader.first is None or world.house is None:
        return
    shows = visible(world.house.supervisor, reader.filter, reader.uid)
    expected = [(row.seq, row.wire) for row in rows if row.seq > reader.first and shows(row)]
    if reader.ended:
        expected = expected[: len(reader.seen)]
    if reader.seen != expected:
        seen, wanted = [seq for seq, _ in reader.seen], [seq for seq, _ in expected]
        missing, extra = sorted({*wanted} - {*seen}), sorted({*seen} - {*wanted})
        yield f"I8 {reader.name}: missing {missing[:5]}, not visible {extra[:5]}, in order {seen == sorted(set(seen))}"


# -- live -------------------------------------------------------------------------------------------------------------
def bounded(cell: Cell) -> Violations:
    """At any moment."""
    mail = cell.mailbox.statistics()
    if not mail.balanced:
        yield f"I28 {cell!r}: {mail}"
    if mail.reserved < 0:
        yield f"I12 {cell!r}: {mail.reserved} places are reserved"
    if cell.rows_ahead < 0 or cell.bytes_ahead < 0:
        yield f"I12 {cell!r}: {cell.rows_ahead} rows ahead of the disk"
    in_hand = sum(envelope.is_run for envelope in cell.mailbox.hand)
    if in_hand > 1:
        yield f"I3 {cell!r}: {in_hand} runs in hand"


def views(live: dict[str, View], rows: Sequence[Row]) -> Violations:
    """What is shown is the fold of the journal from its first row."""
    for uid, own in by_engine(rows).items():
        scratch, shown = fold_all(own), live.get(uid)
        assert scratch is not None
        if shown is None:
            yield f"I7 {own[0].engine_id} is in the journal and not shown"
            continue
        for name in View.__dataclass_fields__:
            if scratch.state is State.DISPOSED and name in ("slices", "runs", "requests"):
                continue  # not kept in memory for what is gone; `disposed` looks at them
            if getattr(scratch, name) != getattr(shown, name):
                yield (
                    f"I7 {scratch.spec.id} {scratch.state} {name}: the journal says {getattr(scratch, name)!r}, "
                    f"shown is {getattr(shown, name)!r}"
                )


def at_rest(cell: Cell, view: View) -> Violations:
    """The house is closed: no actor, nothing in hand, and the cell is what its view says."""
    things = {
        "a task": cell.living, "an actor": cell.actor, "a nap": cell.nap, "something in hand": cell.mailbox.hand,
        "reserved places": cell.mailbox.reserved,
    }  # fmt: skip
    left = [thing for thing, there in things.items() if there]
    if left and not cell.leaks:
        yield f"I13 {cell!r} has {', '.join(left)} left"
    yield from bounded(cell)
    pending = {request.id for request in view.requests.values() if request.state == "pending"}
    yield from (
        f"I7 {cell!r} {name}: the cell has {ours!r}, the view {theirs!r}"
        for name, ours, theirs in (
            ("state", cell.state, view.state),
            ("aim", cell.aim, view.aim),
            ("holds", cell.holds, view.holds),
            ("incarnation", cell.incarnation, view.incarnation),
            ("slices", {n: cell.slices.value(n) for n in view.slices}, {n: s.value for n, s in view.slices.items()}),
            ("runs", {*cell.runs.open}, {*view.runs}),
            ("requests", {r.id for r in cell.requests.pending}, pending),
        )
        if ours != theirs
    )  # fmt: skip
    waiting = {command.id for command in cell.waiting_for_place or ()}
    queued = {envelope.command.id for envelope in cell.mailbox if envelope.command is not None}
    if {*view.owed} != waiting | queued:
        owed = [f"{o.type} {o.seq}" for o in view.owed.values() if o.id not in waiting | queued]
        yield f"I28 {cell!r} owes {owed} beyond what is queued; {len(queued - {*view.owed})} queued are settled"


async def audit(store: MemoryStore) -> list[str]:
    """The chain holds, and the index is the fold."""
    broken = await verify_chain(store)
    found = [f"I20 the chain breaks at {broken.seq}: {broken.why}"] if broken else []
    return found + [f"I7 {fault}" for fault in await verify_records(store)]
