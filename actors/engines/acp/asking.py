"""What the agent asks people: permission for a tool call, and whatever else it elicits.

Rules answer first, and nobody is bothered. Else it is a durable request, in which the very call is the action. Options
are told apart by their kind, never by where they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actors.context import Context
from actors.engine import RequestExpired
from actors.engines.acp.calls import act_of, action_of
from actors.engines.acp.rpc import INVALID_PARAMS, Refused
from actors.engines.conversing import shortened
from actors.engines.permitting import ALWAYS, OPTIONS, Permissions
from actors.permissions import Act, Verdict, rule_of
from protocol.errors import ValidationFailed
from protocol.requests import Option, OptionKind, RequestKind

__all__ = ["Asking"]

TITLE_BYTES = 900
OPTIONS_SHOWN, ID_CHARS, URL_CHARS = 32, 1 << 10, 8 << 10
DECLINE = Option(id="decline", kind=OptionKind.CHOICE, label="Decline")
DONE = Option(id="done", kind=OptionKind.CHOICE, label="Done")

KINDS = {kind.value: kind for kind in (*ALWAYS, OptionKind.ALLOW_ONCE, OptionKind.REJECT_ONCE)}
ALLOWS = (OptionKind.ALLOW_ONCE, OptionKind.ALLOW_ALWAYS)
REJECTS = (OptionKind.REJECT_ONCE, OptionKind.REJECT_ALWAYS)
NARROW = {OptionKind.ALLOW_ALWAYS: ALLOWS, OptionKind.REJECT_ALWAYS: REJECTS}
"""What an "always" of ours is to an agent that has none of its own."""


class Asking:
    """See the module.

    Args:
        permissions: The rules.
        cwd: The session's directory.
        timeout_s: After so long without an answer, the answer is no; None: never.
    """

    def __init__(self, permissions: Permissions, *, cwd: str, timeout_s: float | None) -> None:
        self._permissions, self._cwd, self._timeout_s = permissions, cwd, timeout_s

    def denied(self, act: Act) -> bool:
        """Whether a rule forbids it."""
        return self._permissions.decide(act) is Verdict.DENY

    async def permission(self, ctx: Context, call: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """`session/request_permission`, for a call of which all that is known is in `call`."""
        offered = _offered(params.get("options"))
        act = act_of(call, cwd=self._cwd)
        action = action_of(call, act)
        verdict = self._permissions.decide(act)
        if verdict is not Verdict.ASK and (
            chosen := _of_kind(offered, ALLOWS if verdict is Verdict.ALLOW else REJECTS)
        ):
            await ctx.emit("acp.permission", {"verdict": verdict.value, "action": action})
            return _selected(chosen.id)
        if verdict is Verdict.DENY:
            await ctx.emit("acp.permission", {"verdict": verdict.value, "action": action})
            return CANCELLED
        options = [*offered, *self._always(offered, act)]
        refusal = _of_kind(offered, REJECTS)
        title = call.get("title")  # the action's is a hash, when it is long
        try:
            decided = await ctx.ask_human(
                shortened(title if isinstance(title, str) and title else f"Permission to {act.kind}", TITLE_BYTES),
                kind=RequestKind.PERMISSION, options=options, action=action, deadline_s=self._timeout_s,
                default=refusal.id if refusal is not None and self._timeout_s is not None else None,
            )  # fmt: skip
        except RequestExpired:
            return CANCELLED
        chosen = next(option for option in options if option.id == decided.option)
        if chosen.kind in ALWAYS:
            self._permissions.keep(act, ALWAYS[chosen.kind])
        if chosen not in offered:
            chosen = _of_kind(offered, NARROW[chosen.kind]) or chosen
        return _selected(chosen.id)

    @staticmethod
    def _always(offered: list[Option], act: Act) -> Iterable[Option]:
        """An "always" of our own, where the agent has none and a rule could say it."""
        for option in OPTIONS:
            verdict = ALWAYS.get(option.kind)
            known = any(one.kind is option.kind or one.id == option.id for one in offered)
            if verdict is not None and not known and _of_kind(offered, NARROW[option.kind]) and rule_of(act, verdict):
                yield option

    async def elicitation(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        """`elicitation/create`: a form whose answer fits a schema, or an address where somebody has to go."""
        message, mode = params.get("message"), params.get("mode", "form")
        if not isinstance(message, str) or not message:
            raise Refused(INVALID_PARAMS, "`message` is needed, a text")
        schema = params.get("requestedSchema") if mode == "form" else None
        if mode == "form" and not isinstance(schema, dict):
            raise Refused(INVALID_PARAMS, "`requestedSchema` is needed, a schema")
        url = params.get("url")
        if mode not in ("form", "url") or (mode == "url" and not (isinstance(url, str) and len(url) <= URL_CHARS)):
            raise Refused(INVALID_PARAMS, f"an elicitation is a form, or has an url of up to {URL_CHARS} characters")
        try:
            decided = await ctx.ask_human(
                shortened(message, TITLE_BYTES), schema=schema, deadline_s=self._timeout_s,
                detail="" if mode == "form" else params["url"],
                options=(DECLINE,) if mode == "form" else (DONE, DECLINE),
            )  # fmt: skip
        except ValidationFailed as failed:
            raise Refused(INVALID_PARAMS, failed.detail) from None
        except RequestExpired:
            return {"action": "cancel"}
        if decided.option == DECLINE.id:
            return {"action": "decline"}
        return {"action": "accept", **({"content": decided.answer} if mode == "form" else {})}


CANCELLED: dict[str, Any] = {"outcome": {"outcome": "cancelled"}}


def _selected(option_id: str) -> dict[str, Any]:
    return {"outcome": {"outcome": "selected", "optionId": option_id}}


def _offered(options: object) -> list[Option]:
    """The agent's options; a kind that we do not know is a choice like any other. Raises Refused when there is none."""
    offered: dict[str, Option] = {}
    for option in options if isinstance(options, list) else []:
        match option:
            case {"optionId": str(name)} if 0 < len(name) <= ID_CHARS and len(offered) < OPTIONS_SHOWN:
                label = option.get("name")
                kind = KINDS.get(str(option.get("kind")), OptionKind.CHOICE)
                text = shortened(label, TITLE_BYTES) if isinstance(label, str) and label else name
                offered.setdefault(name, Option(id=name, kind=kind, label=text))
    if not offered:
        raise Refused(INVALID_PARAMS, "`options` are needed, each with an `optionId`")
    return list(offered.values())


def _of_kind(options: Iterable[Option], kinds: tuple[OptionKind, ...]) -> Option | None:
    """The first option of the first of these kinds that has one."""
    listed = list(options)
    return next((option for kind in kinds for option in listed if option.kind is kind), None)
