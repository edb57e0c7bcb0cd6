"""`plan`: the steps that the model means to take, for people to see, and in plan mode to approve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from actors.engines.agent.tool import Call, Input, Tool, Workplace

__all__ = ["Plan", "PlanInput", "Step"]


class Step(Input):
    content: Annotated[str, Field(min_length=1, max_length=1000)]
    status: Literal["pending", "in_progress", "completed"] = "pending"


class PlanInput(Input):
    steps: Annotated[list[Step], Field(min_length=1, max_length=50)]

    @property
    def contents(self) -> list[str]:
        return [step.content for step in self.steps]


class Plan(Tool):
    name, kind = "plan", "think"
    description = (
        "Say which steps you mean to take, and how far each is. Call it again when that changes. Where a plan has to "
        "be approved, people are asked when the steps themselves change."
    )
    Input = PlanInput

    async def prepare(self, at: Workplace, given: PlanInput) -> Call:
        async def do() -> str:
            return "Noted."

        return Call(title=f"Plan of {len(given.steps)} steps", do=do)
