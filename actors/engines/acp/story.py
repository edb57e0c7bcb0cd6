"""What an agent says in its updates, as what is shown of it: deltas, output, events, slices. Values, no I/O.

A message is told when it is whole: when one of another sort, a new id, a tool call or the end of the turn comes. Until
then its pieces are deltas. Kinds of update that we do not know pass through as `acp.update`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.engines.acp.calls import merged, text_of, tool_of
from actors.engines.conversing import TEXT_BYTES, Conversation, Step, Tool, Tools, Usage, brief, shortened
from protocol.events import encode

__all__ = ["Delta", "Event", "Output", "Said", "Slice", "Story", "unknown"]

MESSAGE_BYTES = 256 << 10
"""How much of a message is kept until it is whole; the run's output has all of it."""

STEPS, STEP_BYTES = 200, 1 << 10
CALLS, CALLS_BYTES = 200, 32 << 20
"""How many tool calls of a turn may be remembered whole, and how large all of them; then the oldest is forgotten."""
ID_BYTES = 1 << 10
"""How long a call's id may be; one with a longer one is passed through as something that we do not know."""

UPDATE_BYTES = 8 << 10
MOST_TOKENS, MOST_DOLLARS = 10**12, 10**9
"""What a number of more than that is: none."""

MESSAGES = ("agent_message_chunk", "agent_thought_chunk")


@dataclass(frozen=True, slots=True)
class Delta:
    text: str
    thought: bool
    message: int


@dataclass(frozen=True, slots=True)
class Output:
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """`name` without the kind before it."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    name: str
    value: Any


Said = Delta | Output | Event | Slice


@dataclass(slots=True)
class Message:
    """One that is being said. `kept` is its beginning, `size` how many bytes it has so far."""

    thought: bool
    id: str | None
    kept: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str) -> None:
        if self.size < MESSAGE_BYTES:
            self.kept.append(text[:MESSAGE_BYTES])
        self.size += len(text.encode())

    @property
    def text(self) -> str:
        return shortened("".join(self.kept), MESSAGE_BYTES)


class Story:
    """See the module.

    Args:
        slices: What an earlier incarnation left in them, by name.
    """

    def __init__(self, slices: Mapping[str, Any]) -> None:
        self._conversation = Conversation(slices.get("conversation"))
        self._tools = Tools(slices.get("tools"))
        none: Usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        self._usage: Usage = slices.get("usage", none)
        self._costs: float | None = None  # what the session has cost, as it last said; None: it was found again
        self._run_id = ""
        self._message: Message | None = None
        self._messages = 0
        self._ends_line = True
        self._calls: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, int] = {}
        self.text = ""
        """The last whole message of the turn."""
        self.cost_usd = 0.0
        """What the turn has cost so far."""

    def fresh(self) -> None:
        """The agent's session is a new one."""
        self._costs = 0.0

    # -- a turn ------------------------------------------------------------------------------------------------------
    def begin(self, run_id: str, prompt: str) -> list[Said]:
        """A turn begins with what it was asked."""
        said = self._whole()
        self._run_id, self._messages, self._ends_line = run_id, 0, True
        self._calls, self._sizes, self.text, self.cost_usd = {}, {}, "", 0.0
        self._conversation.say("user", run_id, prompt)
        return [*said, Slice("conversation", self._conversation.value)]

    def end(self) -> list[Said]:
        """The turn is over, however that came about: what was being said is said, what did not end has failed."""
        said = self._whole()
        failed = self._tools.end(self._run_id)
        said += [Event("tool", dict(tool)) for tool in failed]
        if failed:
            said.append(Slice("tools", self._tools.value))
        self._run_id = ""
        return said

    def told(self, run_id: str) -> str:
        """What is known of what a turn did, as a sentence."""
        calls = [tool for tool in self._tools.value if tool["run_id"] == run_id]
        if not calls:
            return "No tool call of its is known."
        completed = sum(tool["status"] == "completed" for tool in calls)
        return f"It had made {len(calls)} tool calls, of which {completed} completed (slice `tools`)."

    def spent(self, found: object) -> tuple[dict[str, Any], list[Said]]:
        """The turn's usage, as a result shows it, from what the prompt's answer says."""
        usage: dict[str, Any] = {"cost_usd": self.cost_usd} if self.cost_usd else {}
        if not isinstance(found, dict):
            return usage, []
        given, got = _count(found.get("inputTokens")), _count(found.get("outputTokens"))
        cached = _count(found.get("cachedReadTokens"))
        usage = {
            "input_tokens": given,
            "output_tokens": got,
            "total_tokens": _count(found.get("totalTokens")) or given + got,
            **({"cached_tokens": cached} if cached else {}),
            **usage,
        }
        known: Usage = {
            **self._usage,
            "input_tokens": self._usage["input_tokens"] + usage["input_tokens"],
            "output_tokens": self._usage["output_tokens"] + usage["output_tokens"],
            "total_tokens": self._usage["total_tokens"] + usage["total_tokens"],
        }
        if cached:
            known["cached_tokens"] = known.get("cached_tokens", 0) + cached
        self._usage = known
        return usage, [Event("usage", dict(known)), Slice("usage", dict(known))]

    def call(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """A call that is asked about: all that is known of it."""
        return merged(self._calls.get(str(update.get("toolCallId")), {}), update)

    # -- updates -----------------------------------------------------------------------------------------------------
    def take(self, update: Mapping[str, Any]) -> list[Said]:
        match update.get("sessionUpdate"):
            case "agent_message_chunk" | "agent_thought_chunk":
                return self._chunk(update)
            case "user_message_chunk":  # of this turn: what we said ourselves
                return []
            case "tool_call" | "tool_call_update":
                return self._tool(update)
            case "plan":
                return _plan(update.get("entries"))
            case "usage_update":
                return self._context(update)
        return [unknown(update)]

    @staticmethod
    def ends_a_step(update: object) -> bool:
        """Whether the agent has come to the end of a tool call: a boundary at which it can be paused."""
        match update:
            case {"sessionUpdate": "tool_call" | "tool_call_update", "status": "completed" | "failed"}:
                return True
        return False

    def _chunk(self, update: Mapping[str, Any]) -> list[Said]:
        text = text_of(update.get("content"))
        if not text:
            return []
        thought = update["sessionUpdate"] == "agent_thought_chunk"
        name = update.get("messageId")
        name = name if isinstance(name, str) else None
        said: list[Said] = []
        if self._message is None or (self._message.thought, self._message.id) != (thought, name):
            said = self._whole()
            self._message = Message(thought, name)
            self._messages += 1
            if not thought and not self._ends_line:
                said.append(Output("\n"))
        self._message.add(text)
        said.append(Delta(text, thought, self._messages))
        if not thought:
            said.append(Output(text))
            self._ends_line = text.endswith("\n")
        return said

    def _whole(self) -> list[Said]:
        """The message that was being said has come to its end."""
        message, self._message = self._message, None
        if message is None:
            return []
        if not message.thought:
            self.text = message.text
        self._conversation.say("agent", self._run_id, message.text, thought=message.thought)
        data = {"message": self._messages, "text": shortened(message.text, TEXT_BYTES), "bytes": message.size}
        event = Event("thought" if message.thought else "message", data)
        return [event, Slice("conversation", self._conversation.value)]

    def _tool(self, update: Mapping[str, Any]) -> list[Said]:
        name = update.get("toolCallId")
        if not isinstance(name, str) or not name or len(name.encode()) > ID_BYTES:
            return [unknown(update)]
        said: list[Said] = []
        begins = update["sessionUpdate"] == "tool_call" or name not in self._calls
        before: Tool | None = None
        if begins:
            said += self._whole()
        else:
            before = self._tools.get(self._run_id, name)
        call = merged({} if update["sessionUpdate"] == "tool_call" else self._calls.get(name, {}), update)
        known = name in self._calls
        self._calls[name], self._sizes[name] = call, len(encode(call))
        while len(self._calls) > CALLS or (sum(self._sizes.values()) > CALLS_BYTES and len(self._calls) > 1):
            oldest = next(iter(self._calls))
            del self._calls[oldest], self._sizes[oldest]
        tool = self._tools.change(self._run_id, name, tool_of(call))
        if begins and not known:
            self._conversation.use(self._run_id, name)
            said.append(Slice("conversation", self._conversation.value))
        said.append(Slice("tools", self._tools.value))
        if before is None or _differs(before, tool):
            said.append(Event("tool", dict(tool)))
        return said

    def _context(self, update: Mapping[str, Any]) -> list[Said]:
        known: Usage = {
            **self._usage,
            "context_used": _count(update.get("used")),
            "context_size": _count(update.get("size")),
        }
        match update.get("cost"):
            case {"currency": "USD", "amount": int() | float() as amount} if 0 <= amount <= MOST_DOLLARS:
                # Cumulative in the agent's session: an agent that was started anew may begin again from nothing.
                known_cost = known.get("cost_usd", 0.0) if self._costs is None else self._costs
                before = known_cost if known_cost <= amount else amount if self._costs is None else 0.0
                self._costs, more = float(amount), amount - before
                self.cost_usd += more
                known = {**known, "cost_usd": known.get("cost_usd", 0.0) + more}
        if known == self._usage:
            return []
        self._usage = known
        return [Event("usage", dict(known)), Slice("usage", dict(known))]


def unknown(update: Mapping[str, Any], *, session: str | None = None) -> Event:
    """An update that is passed through. `session`: of another session than ours."""
    whose = {} if session is None else {"session": shortened(session, 200)}
    kind = shortened(str(update.get("sessionUpdate")), 100)
    return Event("update", {"kind": kind, "update": brief(dict(update), UPDATE_BYTES), **whose})


def _differs(before: Tool, tool: Tool) -> bool:
    """Whether more than what a running tool has printed so far is new."""
    names = ("status", "title", "kind", "paths", "input", "diffs")
    return any(before.get(name) != tool.get(name) for name in names)


def _plan(entries: object) -> list[Said]:
    steps: list[Step] = []
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case {"content": str(content)}:
                status, priority = entry.get("status"), entry.get("priority")
                step: Step = {"content": shortened(content, STEP_BYTES), "status": "pending"}
                if status in ("in_progress", "completed"):
                    step["status"] = status
                if priority in ("high", "medium", "low"):
                    step["priority"] = priority
                steps.append(step)
    steps = steps[:STEPS]
    return [Event("plan", {"plan": steps}), Slice("plan", steps)]


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else 0
