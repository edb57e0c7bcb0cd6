"""`python -m bench [--quick] [ROW ...]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from bench.figures import Figure, Row, Scale, as_json, as_markdown
from bench.measure import Stopwatch

SUBJECTS = ("mailbox", "actors", "store", "http", "sse", "daemon")
VERSIONS = (
    "enginehouse", "trio", "hypercorn", "quart", "quart-trio", "h11", "apsw", "pykka", "fastapi", "uvicorn",
    "sse-starlette",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def rows() -> dict[str, Row]:
    """Every row, by `<subject>.<name>`, in the order of the subjects and of their `ROWS`."""
    found: dict[str, Row] = {}
    for subject in SUBJECTS:
        module = import_module(f"bench.{subject}")
        found |= {f"{subject}.{name}": getattr(module, name) for name in module.ROWS}
    return found


def chosen(names: list[str]) -> dict[str, Row]:
    """The rows that are asked for: a subject, a row, or the last part of its name. Raises SystemExit."""
    known = rows()
    found: dict[str, Row] = {}
    for name in names:
        these = {full: row for full, row in known.items() if name in (full, *full.split("."))}
        if not these:
            raise SystemExit(f"There is no row {name!r}. The rows are {', '.join(known)}.")
        found |= these
    return found or known


def run(wanted: dict[str, Row], scale: Scale) -> dict[str, list[Figure]]:
    measured: dict[str, list[Figure]] = {}
    for name, row in wanted.items():
        watch = Stopwatch()
        measured[name] = row(scale)
        for one in measured[name]:
            ratio = "" if one.ratio is None else f"{one.ratio:8.2f}x of {one.reference:,.4g} ({one.against})"
            met = {None: "", True: "met", False: "MISSED"}[one.met]
            print(f"{name:20} {one.what:48} {one.value:12,.4g} {one.unit:6} {ratio:50} {met}", flush=True)
        print(f"{'':20} ({watch():.1f} s)", file=sys.stderr, flush=True)
    return measured


def about(scale: Scale) -> dict[str, str]:
    """The machine, the versions, the date."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} at the end",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in VERSIONS),
        "rounds": f"{scale.rounds}, median" + (", quick" if scale.quick else ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every row in seconds; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    scale = Scale(options.rounds or (1 if options.quick else 5), options.quick)
    measured = run(chosen(options.rows), scale)
    if not options.rows and not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "latest.json").write_text(as_json(about(scale), measured))
        (RESULTS / "latest.md").write_text(as_markdown(about(scale), measured))
        print(f"written to {RESULTS / 'latest.md'}")


if __name__ == "__main__":
    main()
