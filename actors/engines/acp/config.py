"""What an engine's config and a run's input may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from actors.engine import Config
from actors.engines.acp.presets import PRESETS, Preset
from actors.engines.programs import Environment, ProgramConfig, Text
from actors.permissions import Rule

__all__ = ["AcpConfig", "Block", "Input", "McpServer", "McpStdio", "McpUrl"]

Name = Annotated[Text, Field(min_length=1, max_length=256)]


class McpStdio(Config):
    """An MCP server that the agent starts itself."""

    name: Name
    command: Annotated[Text, Field(min_length=1)]
    args: Annotated[tuple[Text, ...], Field(max_length=1024)] = ()
    env: Environment = Field(default_factory=dict)


class McpUrl(Config):
    """An MCP server that the agent connects to."""

    type: Literal["http", "sse"]
    name: Name
    url: Annotated[Text, Field(min_length=1, max_length=8192)]
    headers: Environment = Field(default_factory=dict)


McpServer = McpStdio | McpUrl


class AcpConfig(ProgramConfig):
    """`agent`: a preset; `argv`: the program, in its place or in that of the preset's. `auth`: the method to
    authenticate by. `mode`, `model`, `options`: what the session begins with, by the agent's own ids. `files` and
    `terminal`: what of ours the agent may use; `elicitation`: whether it may ask people for more than permission.
    `ask_timeout_s`: after so long without an answer, the answer is no.
    """

    agent: str | None = None
    argv: Annotated[tuple[Text, ...], Field(min_length=1, max_length=4096)] | None = None
    auth: Name | None = None
    mode: Name | None = None
    model: Name | None = None
    options: Annotated[dict[Name, Name | bool], Field(max_length=64)] = Field(default_factory=dict)
    mcp_servers: Annotated[tuple[McpServer, ...], Field(max_length=64)] = ()
    permissions: Annotated[tuple[Rule, ...], Field(max_length=1024)] = ()
    files: Literal["none", "read", "write"] = "write"
    terminal: bool = True
    elicitation: bool = True
    ask_timeout_s: Annotated[float, Field(gt=0, le=10**9)] | None = None

    @field_validator("agent")
    @classmethod
    def _known(cls, agent: str | None) -> str | None:
        if agent is not None and agent not in PRESETS:
            raise ValueError(f"there is no preset {agent!r}; there are {', '.join(sorted(PRESETS))}; or give argv")
        return agent

    @model_validator(mode="after")
    def _some_program(self) -> Self:
        if self.agent is None and self.argv is None:
            raise ValueError("give an agent or an argv")
        return self

    @property
    def preset(self) -> Preset:
        """How it is started, all in all."""
        if self.agent is None:
            assert self.argv is not None  # as validated
            return Preset(name=self.argv[0], argv=self.argv, auth=self.auth)
        known = PRESETS[self.agent]
        if self.argv is not None:  # where that comes from, whoever wrote it knows
            known = replace(known, argv=self.argv, package=None, script=False, notes="")
        return replace(known, auth=self.auth or known.auth)


class Said(BaseModel):
    """A content block, in the protocol's own words."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class TextBlock(Said):
    type: Literal["text"]
    text: str


class LinkBlock(Said):
    type: Literal["resource_link"]
    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = Field(default=None, alias="mimeType")
    size: int | None = None


class ImageBlock(Said):
    type: Literal["image"]
    data: str
    mime_type: str = Field(alias="mimeType")
    uri: str | None = None


class AudioBlock(Said):
    type: Literal["audio"]
    data: str
    mime_type: str = Field(alias="mimeType")


class ResourceBlock(Said):
    """`resource`: `{uri, text}` or `{uri, blob}`, with or without a `mimeType`."""

    type: Literal["resource"]
    resource: dict[str, Any]


Block = Annotated[TextBlock | LinkBlock | ImageBlock | AudioBlock | ResourceBlock, Field(discriminator="type")]
Input = Annotated[str, Field(min_length=1)] | Annotated[list[Block], Field(min_length=1, max_length=1024)]
"""A text, or content blocks."""
