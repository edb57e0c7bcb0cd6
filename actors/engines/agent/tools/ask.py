"""`ask`: a question to people, whose answer the model waits for."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from actors.engines.agent.tool import Call, Input, Tool, Workplace
from protocol.requests import Option, OptionKind, RequestKind

__all__ = ["Ask"]

Label = Annotated[str, Field(min_length=1, max_length=500)]


class AskInput(Input):
    question: Annotated[str, Field(min_length=1, max_length=4000)]
    choices: Annotated[
        list[Label], Field(default_factory=list, max_length=10, description="what can be answered; none: any text")
    ]


class Ask(Tool):
    name, kind = "ask", "other"
    description = "Ask people something that you cannot find out or decide yourself, and wait for their answer."
    Input = AskInput

    async def prepare(self, at: Workplace, given: AskInput) -> Call:
        return Call(title=given.question.partition("\n")[0][:200], do=partial(_ask, at, given))


async def _ask(at: Workplace, given: AskInput) -> str:
    options = [Option(id=f"{n}", kind=OptionKind.CHOICE, label=text) for n, text in enumerate(given.choices, 1)]
    title, _, detail = given.question.partition("\n")
    if len(title) > 200:
        title, detail = f"{title[:200]}...", given.question
    schema = None if options else {"type": "string", "minLength": 1}
    decided = await at.ctx.ask_human(title, kind=RequestKind.QUESTION, detail=detail, options=options, schema=schema)
    said = [option.label for option in options if option.id == decided.option]
    said += [decided.answer if isinstance(decided.answer, str) else ""]
    return "\n".join(filter(None, [*said, decided.comment])) or "They answered with nothing."
