"""The numbers in docs/semantics.md are the code's defaults."""

import re
from dataclasses import fields
from pathlib import Path

from protocol.bodies import NewEngine
from protocol.specs import Backoff, Restart

NUMBER = re.compile(r"`(\w+)`[ \n]\(([0-9.]+)\)")


def test_every_default_on_the_page_is_the_one_of_the_code(root: Path) -> None:
    defaults = {field.name: field.default for model in (NewEngine, Restart, Backoff) for field in fields(model)}
    said = {name: float(number) for name, number in NUMBER.findall((root / "docs/semantics.md").read_text())}
    assert len(said) >= 7
    assert said == {name: defaults[name] for name in said}
