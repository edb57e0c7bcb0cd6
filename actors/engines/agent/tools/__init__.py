"""The tools of an agent, in the order in which a model is told of them."""

from actors.engines.agent.tool import Tool
from actors.engines.agent.tools.ask import Ask
from actors.engines.agent.tools.change import Edit, Write
from actors.engines.agent.tools.look import Read, Search
from actors.engines.agent.tools.plan import Plan
from actors.engines.agent.tools.shell import Shell

__all__ = ["TOOLS", "Plan"]

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (Read(), Search(), Write(), Edit(), Shell(), Ask(), Plan())}
"""By name."""
