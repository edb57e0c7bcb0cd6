"""The program that searches an agent's directory, in a process of its own: a pattern that takes for ever takes nothing
but that process, which can be ended. It starts in the directory. Standard library alone.

argv[1] is `{"pattern", "files", "limit", "root", "without"}` as JSON: a regular expression or nothing, a pattern of
names or nothing, how many lines to write, the directory's own path, and regular expressions of absolute paths that are
left out. Links are not followed, `.git` is left out, and so is what is binary or large.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Iterator

FILE_BYTES = 4 << 20
LINE_CHARS = 400


def main() -> int:
    asked = json.loads(sys.argv[1])
    try:
        pattern = re.compile(asked["pattern"]) if asked["pattern"] else None
    except (re.error, RecursionError, OverflowError) as error:
        sys.stderr.write(f"The pattern is no regular expression: {error}.\n")
        return 2
    without = [re.compile(one, re.DOTALL) for one in asked["without"]]
    lines = found(pattern, asked["files"], asked["root"].rstrip("/"), without)
    for count, line in enumerate(lines, 1):
        sys.stdout.write(line.encode(errors="replace").decode(errors="replace") + "\n")
        if count >= asked["limit"]:
            sys.stdout.write(f"[stopped after {count} lines; search for less]\n")
            break
    sys.stdout.flush()
    return 0


def found(pattern: re.Pattern[str] | None, names: str, root: str, without: list[re.Pattern[str]]) -> Iterator[str]:
    names = names.replace("**/", "*")  # a star takes slashes too, here
    for folder, folders, files, descriptor in os.fwalk("."):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(files):
            path = f"{folder}/{name}".removeprefix("./")
            if names and not (fnmatch.fnmatchcase(path, names) or fnmatch.fnmatchcase(name, names)):
                continue
            if any(one.fullmatch(f"{root}/{path}") for one in without):
                continue
            if pattern is None:
                yield path
            else:
                yield from matches(pattern, path, name, descriptor)


def matches(pattern: re.Pattern[str], path: str, name: str, above: int) -> Iterator[str]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        looked = os.fstat(descriptor)
        if not stat.S_ISREG(looked.st_mode) or looked.st_size > FILE_BYTES:
            return
        data = file.read(FILE_BYTES)
    if b"\0" in data:
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if pattern.search(line):
            yield f"{path}:{number}: {line[:LINE_CHARS]}"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]  # a text stream
    sys.exit(main())
