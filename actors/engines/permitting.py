"""What the rules say before an agent acts, and what people's "always" adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.context import Context
from actors.permissions import Act, Rule, Verdict, decide, denied_paths, rule_of
from protocol.edge import as_json, load
from protocol.requests import Option, OptionKind

__all__ = ["ALWAYS", "OPTIONS", "SLICE", "Permissions"]

SLICE = "permissions"
ENGINE = "engine:"
"""How principals begin that are engines' own tokens."""

KEPT = 500
"""How many answers are remembered; then the oldest is forgotten."""

OPTIONS = (
    Option(id="allow_once", kind=OptionKind.ALLOW_ONCE, label="Allow this once"),
    Option(id="allow_always", kind=OptionKind.ALLOW_ALWAYS, label="Always allow this"),
    Option(id="reject_once", kind=OptionKind.REJECT_ONCE, label="Reject this once"),
    Option(id="reject_always", kind=OptionKind.REJECT_ALWAYS, label="Always reject this"),
)
"""What people can answer; the ids are the kinds."""

ALWAYS = {OptionKind.ALLOW_ALWAYS: Verdict.ALLOW, OptionKind.REJECT_ALWAYS: Verdict.DENY}
"""Answers that are rules, and what those say."""


class Permissions:
    """The config's rules, and after them what people said for ever: those survive in the slice `permissions`.

    `root`: the agent's directory, which relative patterns are beneath.
    """

    def __init__(self, ctx: Context, rules: Sequence[Rule], *, root: str) -> None:
        self._ctx, self._rules, self._root = ctx, tuple(rules), root

    @property
    def kept(self) -> list[Rule]:
        return [load(Rule, rule) for rule in self._ctx.slice(SLICE) or ()]

    def decide(self, act: Act) -> Verdict:
        return decide((*self._rules, *self.kept), act, root=self._root)

    def denied_paths(self, *words: str) -> list[str]:
        """What a tool leaves out that goes by these words and looks at many files by itself: regular expressions."""
        return denied_paths((*self._rules, *self.kept), *words, root=self._root)

    def keep(self, act: Act, verdict: Verdict) -> Rule | None:
        """Have the same answer for this act for ever. None: no rule could be so narrow, and none was made."""
        rule = rule_of(act, verdict)
        if rule is not None:
            kept = [known for known in self.kept if known != rule]
            self._ctx.update(SLICE, [as_json(known) for known in (*kept, rule)][-KEPT:])
        return rule

    def forget(self, payload: Any) -> list[Any]:
        """Take answers back: `{"rule": n}`, counted from 0 as the slice lists them, or `{"rule": "all"}`. The rules
        that are gone. Raises ValueError with a sentence, also for an engine's own token: it decides nothing, and to
        take a refusal back is to decide.
        """
        if any(name.startswith(ENGINE) for name in self._ctx.signalled_by):
            raise ValueError("The token of an engine takes nothing back that people have answered.")
        kept = self.kept
        match payload:
            case {"rule": "all"} if len(payload) == 1:
                gone, kept = kept, []
            case {"rule": int(number)} if len(payload) == 1 and number is not True and number is not False:
                if not 0 <= number < len(kept):
                    known = f"they are counted from 0 to {len(kept) - 1}" if kept else "none is kept"
                    raise ValueError(f"There is no rule {number}: {known} (slice `{SLICE}`).")
                gone = [kept.pop(number)]
            case _:
                raise ValueError('The payload of forget is {"rule": n} or {"rule": "all"}.')
        self._ctx.update(SLICE, [as_json(rule) for rule in kept])
        return [as_json(rule) for rule in gone]
