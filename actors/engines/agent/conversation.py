"""What people, the model and tools have said to one another: entries, and the state that is their fold. Pure.

An entry is a JSON object with a `type`. It is written down before anything follows from it, so a conversation that is
folded again after a crash is where it was, and what was about to be done then is known:

    prompt {run_id, text}           a run begins
    said {parts, stop, ...used}     the model has answered; used: input_tokens, output_tokens, cached_tokens, cost_usd
    began {call}                    a tool that acts is about to be called
    result {call, text, error}      a tool has answered
    steer {text}                    people have said something meanwhile
    heard {}                        ... and the model is about to be told
    planned {steps}                 people have approved this plan
    want {}                         people want the conversation to be compacted
    used {...used}                  a call of the model that said nothing in the conversation
    warned {what}, granted {}       a budget is nearly used up; the total one may be used once more

Two rules of both model APIs hold in every state: turns alternate, and each call of a tool has its result in the very
next turn, before anything else is said there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from actors.engines.agent.turns import Part, Text, Thought, ToolCall, ToolResult, Turn

__all__ = ["INTERRUPTED", "Conversation", "Entry", "Used", "from_json", "plain", "to_json"]

Entry = Mapping[str, Any]

DEPTH = 32
"""How deep what a model gives a tool is nested at most; tools take less."""

INTERRUPTED = (
    "Interrupted: the work ended while this was under way, and nobody knows how far it came. Nothing was tried again. "
    "Look before you go on."
)
"""What the model reads in the place of a result that nobody has seen."""

NOT_DONE = "Not done: the work was ended before this was begun."


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What calls of the model have used; `turns`: how many there were."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    turns: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Used) -> Used:
        return Used(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost_usd=round(self.cost_usd + other.cost_usd, 9),
            turns=self.turns + other.turns,
        )


@dataclass(slots=True)
class Conversation:
    """See the module.

    `run_id`, `task`, `stop`: the run that was in hand last, what was asked for, and how the model's last answer ended.
    `began`: calls that act, may have acted, and have no result; `acted`: whether there were any in this run. `steers`:
    what the model has not been told yet. `plan`: the steps that people have approved for this run. `run`, `total`,
    `granted`: what was used by this run, in all, and since a budget was granted last. `warned`: which budgets are
    nearly used up. `context`: how many tokens the last call of the model was about. `runs`: how many there were.
    """

    turns: list[Turn] = field(default_factory=list)
    run_id: str = ""
    task: str = ""
    stop: str = ""
    acted: bool = False
    began: list[str] = field(default_factory=list)
    steers: list[str] = field(default_factory=list)
    plan: list[str] | None = None
    compact: bool = False
    run: Used = Used()
    total: Used = Used()
    granted: Used = Used()
    warned: list[str] = field(default_factory=list)
    context: int = 0
    runs: int = 0

    # -- facts -------------------------------------------------------------------------------------------------------
    @property
    def open_calls(self) -> list[ToolCall]:
        """The calls that the model waits for, in order."""
        answered: set[str] = set()
        for turn in reversed(self.turns):
            if turn.role == "agent":
                calls = [part for part in turn.parts if isinstance(part, ToolCall)]
                return [call for call in calls if call.id not in answered]
            answered |= {part.id for part in turn.parts if isinstance(part, ToolResult)}
        return []

    @property
    def done(self) -> bool:
        """Whether the model has spoken last, and waits for nothing."""
        return bool(self.stop) and not self.open_calls

    @property
    def last_text(self) -> str:
        """What the model has said last, without its thoughts."""
        for turn in reversed(self.turns):
            if turn.role == "agent":
                return "".join(part.text for part in turn.parts if isinstance(part, Text))
        return ""

    # -- folding -----------------------------------------------------------------------------------------------------
    def take(self, entry: Entry) -> None:
        """Go on by one entry. One of an unknown type is of a later version, and changes nothing."""
        match entry["type"]:
            case "prompt":
                self._prompt(entry)
            case "said":
                self._said(entry)
            case "began":
                self.began, self.acted = [*self.began, entry["call"]], True
            case "result":
                self._answer(entry["call"], entry["text"], entry["error"])
            case "steer":
                self.steers = [*self.steers, entry["text"]]
            case "heard":
                self._heard()
            case "planned":
                self.plan = list(entry["steps"])
            case "want":
                self.compact = True
            case "used":
                self._use(_used(entry))
            case "warned":
                self.warned = [*self.warned, entry["what"]]
            case "granted":
                self.granted = Used()
                self.warned = [what for what in self.warned if what.startswith("run.")]

    def _prompt(self, entry: Entry) -> None:
        self.answer_all()
        self.turns = with_user(self.turns, Text(entry["text"]))
        if entry["run_id"] != self.run_id:
            self.run_id, self.plan, self.run, self.runs = entry["run_id"], None, Used(), self.runs + 1
            self.warned = [what for what in self.warned if not what.startswith("run.")]
            self.acted = False
        self.task, self.stop = entry["text"], ""

    def _said(self, entry: Entry) -> None:
        parts = tuple(map(from_json, entry["parts"]))
        if parts:
            self.turns = [*self.turns, Turn("agent", parts)]
        self.stop, self.began = entry["stop"], []
        used = _used(entry, turns=1)
        self._use(used)
        self.context = used.tokens

    def _heard(self) -> None:
        for text in self.steers:
            self.turns = with_user(self.turns, Text(text))
        self.steers, self.stop = [], ""

    def _use(self, used: Used) -> None:
        self.run, self.total, self.granted = self.run + used, self.total + used, self.granted + used

    def _answer(self, call: str, text: str, error: bool) -> None:
        if any(open_call.id == call for open_call in self.open_calls):
            self.turns = with_user(self.turns, ToolResult(call, text, error))
            self.began, self.stop = [began for began in self.began if began != call], ""

    def answer_all(self) -> None:
        """Nobody will answer these any more."""
        for call in self.open_calls:
            self._answer(call.id, INTERRUPTED if call.id in self.began else NOT_DONE, True)

    # -- becoming another --------------------------------------------------------------------------------------------
    def compacted(self, turns: Iterable[Turn]) -> Conversation:
        """The same with other turns, which say in short what these said."""
        return replace(self, turns=list(turns), compact=False, context=0)

    def cleared(self) -> Conversation:
        """Nothing was said; what was used was used."""
        return Conversation(
            run_id=self.run_id, run=self.run, total=self.total, granted=self.granted, warned=self.warned,
            runs=self.runs,
        )  # fmt: skip

    def back_at(self, earlier: Conversation) -> Conversation:
        """As it was earlier; what was used since was used all the same, and nothing is still under way."""
        found = replace(
            earlier, run=self.run, total=self.total, granted=self.granted, warned=self.warned, runs=self.runs,
            steers=[], compact=False, acted=False,
        )  # fmt: skip
        found.answer_all()
        return found

    # -- as JSON -----------------------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        used = {name: asdict(getattr(self, name)) for name in ("run", "total", "granted")}
        return {
            "turns": [{"role": turn.role, "parts": [to_json(part) for part in turn.parts]} for turn in self.turns],
            "run_id": self.run_id, "task": self.task, "stop": self.stop, "acted": self.acted, "began": self.began,
            "steers": self.steers, "plan": self.plan, "compact": self.compact, **used, "warned": self.warned,
            "context": self.context, "runs": self.runs,
        }  # fmt: skip

    @staticmethod
    def load(state: Mapping[str, Any]) -> Conversation:
        """Raises KeyError, TypeError or ValueError for what `dump` has not made."""
        turns = [Turn(turn["role"], tuple(map(from_json, turn["parts"]))) for turn in state["turns"]]
        used = {name: Used(**state[name]) for name in ("run", "total", "granted")}
        return Conversation(**{**state, "turns": turns, **used})


def with_user(turns: list[Turn], part: Part) -> list[Turn]:
    """These turns, and this said to the model: beside what it has not answered yet, else as a turn of its own.

    Results come before texts, whenever those were said.
    """
    if not turns or turns[-1].role != "user":
        return [*turns, Turn("user", (part,))]
    parts = [*turns[-1].parts, part]
    parts.sort(key=lambda one: not isinstance(one, ToolResult))
    return [*turns[:-1], Turn("user", tuple(parts))]


def to_json(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Thought():
            return {"type": "thought", "text": part.text, "signature": part.signature, "redacted": part.redacted}
        case ToolCall():
            return {"type": "call", "id": part.id, "name": part.name, "input": part.input, "broken": part.broken}
        case ToolResult():
            return {"type": "result", "id": part.id, "text": part.text, "error": part.error}


def from_json(part: Mapping[str, Any]) -> Part:
    match part["type"]:
        case "text":
            return Text(part["text"])
        case "thought":
            return Thought(part["text"], part["signature"], part["redacted"])
        case "call":
            return ToolCall(part["id"], part["name"], part["input"], part["broken"])
        case "result":
            return ToolResult(part["id"], part["text"], part["error"])
        case other:
            raise ValueError(f"{other!r} is no part of a turn")


def plain(value: Any, *, depth: int = 0) -> Any:
    """A JSON value from outside as one that can be written down: no lone surrogates, no NaN, and not too deep."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case float() if not math.isfinite(value):
            return str(value)
        case dict() | list() if depth == DEPTH:
            return "[too deep]"
        case dict():
            return {plain(str(name)): plain(member, depth=depth + 1) for name, member in value.items()}
        case list() | tuple():
            return [plain(member, depth=depth + 1) for member in value]
        case _:
            return value


def _used(entry: Entry, *, turns: int = 0) -> Used:
    return Used(
        input_tokens=entry["input_tokens"], output_tokens=entry["output_tokens"],
        cached_tokens=entry["cached_tokens"], cost_usd=entry["cost_usd"], turns=turns,
    )  # fmt: skip
