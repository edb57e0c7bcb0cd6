from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from actors.envelope import Envelope
from actors.mailbox import BURST, Mailbox
from protocol.commands import Command
from protocol.errors import MailboxFull


def run(n: int, *, high: bool = False, at: float = 0.0) -> Envelope:
    return Envelope("run", n, run_id=f"run_{n}", high=high, at=at)


def signal(name: str, at: float = 0.0) -> Envelope:
    return Envelope(name, at=at)


def deliver(box: Mailbox, *envelopes: Envelope) -> None:
    for envelope in envelopes:
        box.reserve()
        box.release()
        box.deliver(envelope)


def drain(box: Mailbox) -> list[Envelope]:
    """Everything that can be taken, each handled before the next."""
    taken = []
    while (envelope := box.take(run_free=True)) is not None:
        taken.append(envelope)
        box.end(envelope, "handled")
    return taken


def test_a_reserved_place_counts_as_taken() -> None:
    box = Mailbox(2)
    box.reserve()
    deliver(box, signal("a"))
    with pytest.raises(MailboxFull):
        box.reserve()
    box.release()
    box.reserve()


def test_a_refused_place_changes_nothing() -> None:
    box = Mailbox(1)
    deliver(box, signal("a"))
    before = box.statistics()
    for refused in (box.reserve, lambda: box.offer(signal("b"))):
        with pytest.raises(MailboxFull) as full:
            refused()
        assert full.value.extra == {"retry_after_s": 1}
        assert box.statistics() == before


def test_what_was_taken_frees_its_place() -> None:
    box = Mailbox(1)
    deliver(box, run(1))
    box.take(run_free=True)
    box.reserve()


def test_what_is_recovered_may_exceed_the_size_and_blocks_only_new_work() -> None:
    box = Mailbox(1)
    for n in range(3):
        box.deliver(run(n))
    assert len(box) == 3
    with pytest.raises(MailboxFull):
        box.reserve()


def test_signals_go_before_runs_and_are_taken_also_while_a_run_is_in_hand() -> None:
    box = Mailbox(9)
    deliver(box, run(1), run(2, high=True), signal("a"), signal("b"))
    assert [getattr(box.take(run_free=False), "name", None) for _ in range(3)] == ["a", "b", None]
    assert [envelope.name for envelope in box.hand] == ["a", "b"]


def test_runs_of_one_priority_are_taken_in_order() -> None:
    box = Mailbox(99)
    runs = [run(n) for n in range(5)]
    deliver(box, *runs)
    assert drain(box) == runs


def test_one_normal_run_goes_after_eight_high_ones() -> None:
    box = Mailbox(99)
    high, normal = [run(n, high=True) for n in range(20)], [run(n) for n in range(100, 104)]
    deliver(box, *normal, *high)
    assert drain(box) == [*high[:8], normal[0], *high[8:16], normal[1], *high[16:], *normal[2:]]


def test_high_runs_do_not_wait_for_normal_ones_that_are_not_there() -> None:
    box = Mailbox(99)
    high = [run(n, high=True) for n in range(2 * BURST)]
    deliver(box, *high)
    assert drain(box) == high


def test_what_is_put_back_is_the_next_of_its_lane() -> None:
    box = Mailbox(9)
    deliver(box, run(1), run(2))
    first = box.take(run_free=True)
    assert first is not None
    box.put_back(first)
    assert box.take(run_free=True) is first


def test_an_envelope_can_go_in_front() -> None:
    box = Mailbox(9)
    deliver(box, run(1), run(2))
    box.deliver(run(3), front=True)
    assert [envelope.payload for envelope in drain(box)] == [3, 1, 2]


@pytest.mark.parametrize("envelope", [signal("a"), run(1), run(1, high=True)], ids=["signal", "normal", "high"])
def test_what_is_withdrawn_is_never_taken(envelope: Envelope) -> None:
    box = Mailbox(9)
    deliver(box, run(7), envelope, signal("z"))
    box.withdraw(envelope)
    assert envelope not in drain(box)
    assert box.statistics().withdrawn == 1


def test_burying_gives_back_what_was_queued_in_order_and_leaves_what_is_in_hand() -> None:
    box = Mailbox(9)
    first, low, high, late = run(1), run(2), run(3, high=True), signal("late")
    deliver(box, first)
    box.take(run_free=True)
    deliver(box, low, high, late)
    assert box.bury() == [late, high, low]
    assert (len(box), box.hand, box.statistics().dead) == (0, [first], 3)


def test_burying_what_is_volatile_leaves_the_rest_in_order() -> None:
    box = Mailbox(9)
    kept = Command(id="cmd_1", uid="eng_1", body=None)
    durable = [Envelope("a", command=kept), Envelope("b", command=kept)]
    deliver(box, durable[0], signal("x"), run(1), durable[1], signal("y"))
    assert [envelope.name for envelope in box.bury_volatile()] == ["x", "y"]
    assert [envelope.name for envelope in box] == ["a", "b", "run"]
    assert box.statistics().balanced


def test_a_queued_run_is_found_by_its_id_and_knows_its_place() -> None:
    box = Mailbox(9)
    low, high = run(1), run(2, high=True)
    deliver(box, low, signal("a"), high)
    assert (box.find("run_1"), box.find("run_9")) == (low, None)
    assert [box.position(run_id) for run_id in ("run_2", "run_1", "run_9")] == [0, 1, None]


def test_statistics_say_since_when_the_oldest_waits() -> None:
    box = Mailbox(9)
    assert box.statistics().oldest_at is None
    deliver(box, run(1, at=5.0), signal("a", at=3.0), run(2, high=True, at=4.0))
    assert box.statistics().oldest_at == 3.0


class Conservation(RuleBasedStateMachine):
    """Whatever happens to envelopes, they are all somewhere, and only once; and the order of each lane is kept."""

    queued = Bundle("queued")
    SIZE = 6

    @initialize()
    def open(self) -> None:
        self.box = Mailbox(self.SIZE)
        self.lanes: dict[str, deque[Envelope]] = {"signal": deque(), "high": deque(), "normal": deque()}
        self.reserved = self.count = self.over = 0
        self.highs = 0

    def lane(self, envelope: Envelope) -> deque[Envelope]:
        return self.lanes["signal" if not envelope.is_run else "high" if envelope.high else "normal"]

    @property
    def length(self) -> int:
        return sum(map(len, self.lanes.values()))

    def envelope(self, kind: str) -> Envelope:
        self.count += 1
        return signal(f"s{self.count}") if kind == "signal" else run(self.count, high=kind == "high")

    @rule()
    def reserve(self) -> None:
        if self.reserved + self.length >= self.SIZE:
            with pytest.raises(MailboxFull):
                self.box.reserve()
        else:
            self.box.reserve()
            self.reserved += 1

    @precondition(lambda self: self.reserved)
    @rule(target=queued, kind=st.sampled_from(["signal", "high", "normal"]), front=st.booleans())
    def deliver(self, kind: str, front: bool) -> Envelope:
        envelope = self.envelope(kind)
        self.box.release()
        self.reserved -= 1
        self.box.deliver(envelope, front=front)
        lane = self.lane(envelope)
        if front:
            lane.appendleft(envelope)
        else:
            lane.append(envelope)
        return envelope

    @precondition(lambda self: self.reserved)
    @rule()
    def give_back(self) -> None:
        self.box.release()
        self.reserved -= 1

    @rule(target=queued)
    def offer(self) -> Envelope:
        envelope = self.envelope("signal")
        if self.reserved + self.length >= self.SIZE:
            with pytest.raises(MailboxFull):
                self.box.offer(envelope)
        else:
            self.box.offer(envelope)
            self.lanes["signal"].append(envelope)
        return envelope

    @rule(run_free=st.booleans())
    def take(self, run_free: bool) -> None:
        taken = self.box.take(run_free=run_free)
        if self.lanes["signal"]:
            assert taken is self.lanes["signal"].popleft()
        elif run_free and (self.lanes["high"] or self.lanes["normal"]):
            assert taken is not None
            assert taken is self.lane(taken).popleft()
            self.highs = self.highs + 1 if taken.high else 0
            assert self.highs <= BURST or not self.lanes["normal"]
        else:
            assert taken is None

    @precondition(lambda self: self.box.hand)
    @rule(data=st.data(), how=st.sampled_from(["handled", "dead", "back"]))
    def end(self, data: st.DataObject, how: str) -> None:
        envelope = data.draw(st.sampled_from(self.box.hand))
        if how == "back":
            self.box.put_back(envelope)
            self.lane(envelope).appendleft(envelope)
        else:
            self.box.end(envelope, "handled" if how == "handled" else "dead")

    @rule(envelope=consumes(queued))
    def withdraw(self, envelope: Envelope) -> None:
        if envelope in self.lane(envelope):
            self.box.withdraw(envelope)
            self.lane(envelope).remove(envelope)

    @rule()
    def bury(self) -> None:
        buried = self.box.bury()
        assert sorted(map(id, buried)) == sorted(id(e) for lane in self.lanes.values() for e in lane)
        for lane in self.lanes.values():
            lane.clear()

    @invariant()
    def everything_is_somewhere(self) -> None:
        found = self.box.statistics()
        assert found.balanced
        assert found.accepted == found.handled + found.dead + found.withdrawn + found.queued + found.in_hand
        assert (found.queued, found.reserved, len(self.box)) == (self.length, self.reserved, self.length)
        assert list(self.box) == [e for name in ("signal", "high", "normal") for e in self.lanes[name]]


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_two_mailboxes_add_up_as_if_they_were_one() -> None:
    first, second = Mailbox(2), Mailbox(3)
    first.deliver(Envelope("a", at=7.0))
    second.deliver(Envelope("b", at=5.0))
    second.deliver(Envelope("c", at=6.0))
    taken = second.take(run_free=True)
    assert taken is not None
    second.end(taken, "handled")
    both = first.statistics() + second.statistics()
    assert (both.size, both.accepted, both.handled, both.queued, both.oldest_at) == (5, 3, 1, 2, 6.0)
    assert both.balanced
    assert (Mailbox(1).statistics() + Mailbox(1).statistics()).oldest_at is None
