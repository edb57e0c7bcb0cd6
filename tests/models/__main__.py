"""The endpoint as a process: it says where it listens on its first line, and serves until it is ended.

    python -m tests.models [--port N] [--script FILE] [--default TEXT]

`POST /_script` adds rules (see `spoken`), `POST /_open/GATE` opens a gate, `GET /_held/GATE` answers once a reply
stands before it, `GET /_asked` tells what was asked.
"""

import argparse
import json
from pathlib import Path

import trio

from tests.models.endpoint import open_endpoint
from tests.models.spoken import rules_of


async def main(port: int, script: str, default: str) -> None:
    async with open_endpoint(default, port=port) as endpoint:
        endpoint.script.rules.extend(rules_of(json.loads(script)))
        print(endpoint.url, flush=True)  # noqa: T201 - how it is found
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.models",
        description="A model that says what it was told to say, for tests and for trying. It prints its address; a "
        "base_url is that address with /v1 for openai-chat and openai-responses, and as it is for anthropic.",
    )
    parser.add_argument("--port", type=int, default=0, help="where it listens on the loopback; 0: a free one")
    parser.add_argument("--script", type=Path, help="a JSON file of rules (see tests/models/spoken.py)")
    parser.add_argument("--default", default="Done.", help="what it says when no rule has an answer")
    said = parser.parse_args()
    trio.run(main, said.port, said.script.read_text() if said.script else "[]", said.default)
