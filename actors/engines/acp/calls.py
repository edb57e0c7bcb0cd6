"""A tool call of the agent: as the slice shows it, as rules match it, and as people are asked about it. Pure.

The protocol gives a call a kind and a title for people, and no name. So where a call says what it touches, its files or
its command, rules know it by its kind; else only by its title, since "fetch" alone would be a rule about every address.
A title is never taken for a kind, nor a kind of the agent's own for one: else it could call itself what was allowed.
"""

from __future__ import annotations

import hashlib
import posixpath
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from actors.engines.conversing import Diff, ToolStatus
from actors.permissions import Act
from protocol.events import encode

__all__ = ["act_of", "action_of", "merged", "text_of", "tool_of"]

MEMBERS = ("title", "kind", "status", "content", "locations", "rawInput", "rawOutput")
PATH_WORDS = ("path", "file_path", "filePath", "abs_path", "filename", "file", "notebook_path", "source", "destination")
KINDS = ("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other")
"""The protocol's; whatever else an agent says is `other`."""
ON_FILES = ("read", "edit", "delete", "move", "search")
SHELLS = ("sh", "bash", "zsh", "dash")
SHOWN_BYTES, BEGINS = 4 << 10, 400
"""How long a text in an action is; of a longer one its hash and its beginning."""

WHOLE_BYTES, LEVELS = 48 << 10, 16


def merged(known: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """The call after an update, which names only what changed."""
    return {**known, **{name: update[name] for name in MEMBERS if update.get(name) is not None}}


def tool_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Members of `Tool` that the call says."""
    status, given = call.get("status"), call.get("rawInput")
    output = _output(call)
    diffs = list(_diffs(call))
    return {
        "name": _kind(call),
        "kind": _kind(call),
        "title": _text(call.get("title")),
        "status": status if status in get_args(ToolStatus) else "pending",
        "paths": list(_paths(call)),
        **({} if given is None else {"input": given}),
        **({"output": output} if output else {}),
        **({"diffs": diffs} if diffs else {}),
    }


def act_of(call: Mapping[str, Any], *, cwd: str) -> Act:
    """The call as rules match it; without a name, where nothing names it. `cwd`: the session's directory."""
    kind, command = _kind(call), _command(call)
    paths = tuple(posixpath.normpath(posixpath.join(cwd, path)) for path in _paths(call))
    told = (kind == "execute" and command is not None) or (kind in ON_FILES and bool(paths))
    title = _text(call.get("title"))
    return Act(tool=kind if told else "" if title in KINDS else title, kind=kind, paths=paths, command=command)


def action_of(call: Mapping[str, Any], act: Act) -> dict[str, Any]:
    """The call as people are asked about it and as its digest knows it: nothing in it differs from try to try."""
    action: dict[str, Any] = {"tool": act.tool, "kind": act.kind, "title": _text(call.get("title"))}
    if act.command is not None:
        action["command"] = act.command
    if act.paths:
        action["paths"] = list(act.paths)
    if call.get("rawInput") is not None:
        action["input"] = call["rawInput"]
    if diffs := list(_diffs(call)):
        action["diffs"] = diffs
    action = _hashed(action)
    for name in sorted(action, key=lambda name: -len(encode(action[name]))):
        if len(encode(action)) <= WHOLE_BYTES:
            break
        action[name] = _hash(encode(action[name]))
    return action


def text_of(block: Any) -> str:
    """What a content block says, as text; of one that is none, what it is."""
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource_link", "uri": str(uri)}:
            return f"[{block.get('title') or block.get('name') or uri}]({uri})"
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"uri": str(uri)}}:
            return f"[resource {uri}]"
        case {"type": "image" | "audio" as what, "data": str(data)}:
            return f"[{what} {block.get('mimeType')}, {len(data) * 3 // 4} bytes]"
        case {"type": str(what)}:
            return f"[{what}]"
    return ""


def _kind(call: Mapping[str, Any]) -> str:
    kind = _text(call.get("kind"))
    return kind if kind in KINDS else "other"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _content(call: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (part for part in _list(call.get("content")) if isinstance(part, dict))


def _diffs(call: Mapping[str, Any]) -> Iterator[Diff]:
    for part in _content(call):
        match part:
            case {"type": "diff", "path": str(path), "newText": str(new)}:
                old = part.get("oldText")
                yield {"path": path, "old": old if isinstance(old, str) else None, "new": new}


def _paths(call: Mapping[str, Any]) -> Iterator[str]:
    """Every path that it names, each once, in the order in which they stand."""
    found = [part.get("path") for part in _list(call.get("locations")) if isinstance(part, dict)]
    found += [diff["path"] for diff in _diffs(call)]
    given = call.get("rawInput")
    if isinstance(given, dict):
        found += [given.get(word) for word in PATH_WORDS]
        if isinstance(given.get("changes"), dict):  # codex: path to change
            found += given["changes"]
    yield from dict.fromkeys(path for path in found if isinstance(path, str) and path)


def _command(call: Mapping[str, Any]) -> str | None:
    """The command line that it would run; for one that a shell is given as an argument, that argument."""
    given = call.get("rawInput")
    said = given.get("command", given.get("cmd")) if isinstance(given, dict) else None
    match said:
        case str():
            args = given.get("args") if isinstance(given, dict) else None
            return f"{said} {shlex.join(map(str, args))}" if isinstance(args, list) and args else said
        case [str(shell), "-c" | "-lc", str(line)] if posixpath.basename(shell) in SHELLS:
            return line
        case [*words] if words and all(isinstance(word, str) for word in words):
            return shlex.join(words)
    return None


def _output(call: Mapping[str, Any]) -> str:
    said = "\n".join(filter(None, (text_of(part.get("content")) for part in _content(call))))
    if said or call.get("rawOutput") is None:
        return said
    raw = call["rawOutput"]
    return raw if isinstance(raw, str) else encode(raw).decode()


def _hashed(value: Any, deep: int = 0) -> Any:
    match value:
        case str() if len(value.encode()) > SHOWN_BYTES:
            return _hash(value.encode())
        case dict() | list() if deep > LEVELS:
            return _hash(encode(value))
        case dict():
            return {name: _hashed(member, deep + 1) for name, member in value.items()}
        case list():
            return [_hashed(member, deep + 1) for member in value]
    return value


def _hash(data: bytes) -> dict[str, Any]:
    begins = data[:BEGINS].decode(errors="ignore")
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "begins": begins}
