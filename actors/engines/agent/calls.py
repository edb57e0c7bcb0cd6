"""One call of a tool, from what the model said to the result that it reads.

Looked at first, then allowed or not, then marked as begun, then done: in this order a crash at any point either leaves
it undone, and it may be looked at again, or leaves the mark, and the model is told that nobody knows how far it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.canonical import canonical
from actors.engine import RunFailed
from actors.engines.agent.conversation import INTERRUPTED, plain
from actors.engines.agent.desk import Desk, NoCheckpoint
from actors.engines.agent.files import Refused
from actors.engines.agent.tool import Call, Tool, Workplace
from actors.engines.agent.tools import TOOLS, Plan
from actors.engines.agent.tools.plan import PlanInput
from actors.engines.agent.turns import ToolCall
from actors.engines.conversing import shortened
from actors.engines.permitting import ALWAYS, OPTIONS
from actors.permissions import Verdict
from actors.question import ACTION_BYTES
from protocol.edge import parse
from protocol.errors import ValidationFailed
from protocol.requests import OptionKind, RequestKind

__all__ = ["answer"]

NAME_BYTES = 64

PLAN_FIRST = (
    "Not done: in this engine a plan has to be approved before anything is written or executed. Look around as much as "
    "you need, then call `plan` with the steps that you mean to take; people will approve it, or say what is wrong."
)


async def answer(desk: Desk, at: Workplace, run_id: str, call: ToolCall) -> None:
    """Carry out a call, or refuse it: the model has its result afterwards. Cancelled: it has none; see the module."""
    name = shortened(call.name, NAME_BYTES)
    show = {"name": name, "title": name, "status": "pending", "input": dict(call.input)}
    await desk.showing.tool(at.ctx, run_id, call.id, **show)
    try:
        text, error = await _carried_out(desk, at, run_id, call), False
    except Refused as refused:
        text, error = str(refused), True
    text = plain(text)
    await desk.notebook.note("result", call=call.id, text=text, error=error)
    status = "failed" if error else "completed"
    await desk.showing.tool(at.ctx, run_id, call.id, status=status, output=text)


async def _carried_out(desk: Desk, at: Workplace, run_id: str, call: ToolCall) -> str:
    if call.broken:
        raise Refused("Not done: the input is no whole JSON object. It may have been cut off; say less at once.")
    if call.id in desk.said.began:
        raise Refused(INTERRUPTED)
    tool = TOOLS.get(call.name)
    if tool is None or call.name not in desk.config.tools:
        raise Refused(
            f"There is no tool {shortened(call.name, NAME_BYTES)!r}; there are: {', '.join(desk.config.tools)}."
        )
    given = _input(tool, call.input)
    if isinstance(tool, Plan):
        return await _planned(desk, at, given)
    if tool.acts and desk.config.plan and desk.said.plan is None:
        raise Refused(PLAN_FIRST)
    prepared = await tool.prepare(at, given)
    await desk.showing.tool(
        at.ctx, run_id, call.id, kind=tool.kind, title=prepared.title, paths=list(prepared.paths),
        **({"diffs": list(prepared.diffs)} if prepared.diffs else {}),
    )  # fmt: skip
    await _allowed(desk, at, prepared)
    if tool.acts:
        await _saved(desk, at, run_id)
        await desk.notebook.note("began", call=call.id)
    await desk.showing.tool(at.ctx, run_id, call.id, status="in_progress")
    return await prepared.do()


def _input(tool: Tool, given: Mapping[str, Any]) -> Any:
    try:
        return parse(tool.Input, dict(given))
    except ValidationFailed as error:
        raise Refused(f"Not done: {error.detail}") from None


async def _allowed(desk: Desk, at: Workplace, call: Call) -> None:
    """Raises Refused when a rule or people say no."""
    if call.act is None:
        return
    verdict = desk.permissions.decide(call.act)
    if verdict is Verdict.DENY:
        raise Refused("Not done: a rule of this engine forbids it. Find another way, or ask.")
    if verdict is Verdict.ALLOW:
        return
    _seen_whole(call.action)
    decided = await at.ctx.ask_human(
        call.title, kind=RequestKind.PERMISSION, detail=call.detail, options=OPTIONS, action=call.action
    )
    option = next(option for option in OPTIONS if option.id == decided.option)
    if option.kind in ALWAYS:
        rule = desk.permissions.keep(call.act, ALWAYS[option.kind])
        if rule is None:
            at.ctx.log(f"What was answered with always is no rule: none could be as narrow as {call.title!r}.")
    if option.kind not in (OptionKind.ALLOW_ONCE, OptionKind.ALLOW_ALWAYS):
        raise Refused(f"Not done: people do not allow it.{_comment(decided.comment)}")


async def _planned(desk: Desk, at: Workplace, given: PlanInput) -> str:
    steps = [step.model_dump() for step in given.steps]
    if not desk.config.plan or desk.said.plan == given.contents:
        await desk.showing.plan(at.ctx, steps, approved=desk.config.plan)
        return "Noted."
    await desk.showing.plan(at.ctx, steps, approved=False)
    action = {"plan": given.contents}
    _seen_whole(action)
    decided = await at.ctx.ask_human("Approve this plan?", kind=RequestKind.APPROVAL, action=action)
    if decided.option != "approve":
        raise Refused(f"The plan is not approved.{_comment(decided.comment)} Think again, and call `plan` once more.")
    await desk.notebook.note("planned", steps=given.contents)
    await desk.showing.plan(at.ctx, steps, approved=True)
    return f"The plan is approved.{_comment(decided.comment)} Go on."


def _seen_whole(action: Any) -> None:
    """People approve what they see. Raises Refused for more than a request can show."""
    if len(canonical(action)) > ACTION_BYTES:
        raise Refused("Not done: this is more than people can be shown. Do it in smaller steps.")


def _comment(comment: str | None) -> str:
    return f" They say: {comment}" if comment else ""


async def _saved(desk: Desk, at: Workplace, run_id: str) -> None:
    """Before the first thing that a run does there is a checkpoint."""
    if desk.checkpoints is None or desk.saved_for == run_id:
        return
    try:
        await desk.save(at.ctx, "before a run")
    except NoCheckpoint as error:
        raise RunFailed("checkpoint-failed", str(error)) from error
    desk.saved_for = run_id
