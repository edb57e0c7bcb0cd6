"""The page about the network: its numbers are those of the code."""

import re
from pathlib import Path

from web.auth.rates import ADDRESSES, URGENT_COMMANDS
from web.limits import Limits
from web.settings import Limits as Settable
from web.streams import STANDING_S

PAGE = (Path(__file__).parent.parent.parent / "docs" / "network.md").read_text()
WORDS = {"connections": "half of the descriptors", "address_connections": "half of `connections`"}


def test_every_limit_that_can_be_set_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    defaults = Limits()
    numbers = [name for name in Settable.model_fields if name != "roots"]
    shown = {name: WORDS.get(name) or f"{getattr(defaults, name):g}" for name in numbers}
    shown["body_bytes"] = str(defaults.body_bytes)
    assert listed == shown


def test_the_figures_in_the_text_are_true() -> None:
    limits = Limits()
    for figure in (
        f"a target of {limits.uri_bytes:,} bytes",
        f"JSON {limits.json_depth} deep",
        f"{limits.json_keys:,} names",
        f"{limits.json_int_digits} digits",
        f"At most {ADDRESSES:,} addresses",
        f"at least every {STANDING_S:g} seconds",
        f"for each {limits.send_bytes // 1024} KiB of an answer",
    ):
        assert figure in PAGE, figure
    stops = PAGE[PAGE.index("What stops something (") : PAGE.index("counts in a window of its own")]
    replies = {"approve", "reject", "skip", "answer"}
    assert URGENT_COMMANDS - replies == set(re.findall(r"\b(pause|resume|stop|cancel|dispose|drain)\b", stops))
