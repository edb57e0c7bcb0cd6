"""Permission rules: what an agent may do without asking, never, or only after somebody said yes. Pure.

    decide(rules, Act(tool="execute", command="git push")) -> Verdict.ALLOW | ASK | DENY

Rules are read in order. A `deny` that matches wins always; else the last rule that matches; else `ask`. What people
answer with "always" is a rule too, appended after the config's (`rule_of`), and as narrow as what was shown to them.

Allowing is strict and denying is generous. An `allow` must cover every path and every command of a line, and covers no
line with a substitution, a redirection or a variable in it, unless the rule asks for that very line; a `deny` or `ask`
that covers one of them covers the act, and covers a command also behind other words or a path (`sudo rm x`, `X=1 rm x`,
`/bin/rm x`). What is too long to be real is allowed by no rule with a pattern for it, and denied by every one.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from actors.engine import Config

__all__ = ["Act", "Rule", "Verdict", "decide", "denied_paths", "rule_of"]

SEPARATORS = frozenset({";", ";;", "&", "&&", "|", "||", "|&", "\n"})
"""What ends one command of a line and begins the next (POSIX.1-2024, Shell Command Language, 2.10)."""

UNREADABLE = re.compile(r"[`$<>(){}]|\\\n")
"""What can make a line do more than its words say."""

LINE_CHARS, PATH_CHARS = 1 << 15, 1 << 12
"""How long a line and a path are that a pattern is held against: whoever names them may be hostile, and reading takes
time. No path is longer (PATH_MAX).
"""

Pattern = Annotated[str, Field(min_length=1, max_length=4096)]


class Verdict(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Rule(Config):
    """All that is given must match. Patterns: `*` any text without a slash, `**` any text, `**/` any
    directories or none, `?` one character.

    `tool`: the tool's name or its kind (`read`, `edit`, `execute`, ...), in which `*` is any text. `path`: an absolute
    path, or one beneath the agent's directory. `command`: one command of a line, in which `*` is any text.
    """

    verdict: Verdict
    tool: Pattern = "*"
    path: Pattern | None = None
    command: Pattern | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is about to be done: `tool` by name, its `kind`, every path that it touches, absolute, its command line."""

    tool: str
    kind: str = ""
    paths: tuple[str, ...] = ()
    command: str | None = None


def decide(rules: Iterable[Rule], act: Act, *, root: str = "/") -> Verdict:
    """What the rules say of this act. `root`: the directory that relative patterns are beneath."""
    verdict = Verdict.ASK
    for rule in rules:
        if _matches(rule, act, root):
            if rule.verdict is Verdict.DENY:
                return Verdict.DENY
            verdict = rule.verdict
    return verdict


def denied_paths(rules: Iterable[Rule], *words: str, root: str = "/") -> list[str]:
    """Regular expressions for the whole of the absolute paths that a tool may not touch which goes by these words, so
    that one which looks at many files by itself can leave them out.
    """
    return [
        _path(rule.path, root).pattern
        for rule in rules
        if rule.verdict is Verdict.DENY and rule.path is not None and rule.command is None and _names(rule, words)
    ]


def rule_of(act: Act, verdict: Verdict) -> Rule | None:
    """The rule that says the same of this act for ever, and of little else. None: no rule could be so narrow."""
    members = {"verdict": verdict, "tool": _literal(act.tool)}
    if act.command is not None:
        members["command"] = _literal(act.command)
    elif len(act.paths) > 1:
        return None
    elif act.paths:
        members["path"] = _literal(act.paths[0])
    try:
        return Rule.model_validate(members)
    except ValueError:  # too long, or no text
        return None


def _matches(rule: Rule, act: Act, root: str) -> bool:
    strict = rule.verdict is Verdict.ALLOW
    if not _names(rule, (act.tool, act.kind)):
        return False
    return _covers_paths(rule, act.paths, root, strict) and _covers_command(rule, act.command, strict)


def _names(rule: Rule, words: Iterable[str]) -> bool:
    tool = _pattern(rule.tool, slash=True)
    return any(tool.fullmatch(word) for word in words if word)


def _path(path: str, root: str) -> re.Pattern[str]:
    return _pattern(posixpath.normpath(posixpath.join(root, path)), slash=False)


def _covers_paths(rule: Rule, paths: Sequence[str], root: str, strict: bool) -> bool:
    if rule.path is None:
        return True
    pattern = _path(rule.path, root)
    covered = [
        pattern.fullmatch(posixpath.normpath(posixpath.join(root, path))) is not None
        if len(path) <= PATH_CHARS
        else not strict
        for path in paths
    ]
    return bool(covered) and (all if strict else any)(covered)


def _covers_command(rule: Rule, line: str | None, strict: bool) -> bool:
    if rule.command is None:
        return True
    if line is None:
        return False
    if _literal(line) == rule.command or rule.command in ("*", "**"):
        return True
    if len(line) > LINE_CHARS:
        return not strict
    commands = _commands(line)
    if strict:
        pattern = _pattern(rule.command, slash=True)
        return commands is not None and all(pattern.fullmatch(command) for command in commands)
    pattern = _pattern(rule.command, slash=True, within=True)
    return any(pattern.fullmatch(command) for command in (line.strip(), *(commands or ()), *_pieces(line)))


@lru_cache(16)
def _commands(line: str) -> tuple[str, ...] | None:
    """The commands of a line, one space between words; None when it is not read with certainty."""
    if UNREADABLE.search(line):
        return None
    lexer = shlex.shlex(line.replace("\n", " ; "), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word in SEPARATORS:
                commands.append([])
            elif set(word) <= set(";&|"):
                return None
            else:
                commands[-1].append(word)
    except ValueError:  # a quotation that does not end
        return None
    return tuple(" ".join(words) for words in commands if words) or None


@lru_cache(16)
def _pieces(line: str) -> tuple[str, ...]:
    """Everything in a line that may be a command, whether it is quoted or not, and with its quotes or without."""
    whole = line.replace("\\\n", "")
    lines = dict.fromkeys((whole, re.sub(r"[\\'\"]", "", whole)))
    pieces = (piece for one in lines for piece in re.split(r"[;&|\n`(){}]+|\$\(", one))
    return tuple(dict.fromkeys(" ".join(piece.split()) for piece in pieces if piece.strip()))


def _literal(text: str) -> str:
    return re.sub(r"([*?\\])", r"\\\1", text)


@lru_cache(1024)
def _pattern(pattern: str, *, slash: bool, within: bool = False) -> re.Pattern[str]:
    """The pattern as a regular expression. `slash`: whether `*` and `?` take one; `within`: also behind other words, or
    a path.
    """
    parts = re.findall(r"\\.|\*\*/|\*\*|\*|\?|[^*?\\]+|\\", pattern, re.DOTALL)
    if not slash:
        words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        return re.compile("".join(words.get(part) or _escaped(part) for part in parts), re.DOTALL)
    # What is between two stars is best found where it comes first, so nothing is ever tried twice: `(?>...)`.
    pieces = [""]
    for part in parts:
        if part.startswith("*"):
            pieces.append("/" if part == "**/" else "")
        else:
            pieces[-1] += "." if part == "?" else _escaped(part)
    found = _chain(pieces)
    if within:
        found = f"(?:{found})|(?:{_chain(['', f'[ /]{pieces[0]}', *pieces[1:]])})"
    return re.compile(found, re.DOTALL)


def _chain(pieces: Sequence[str]) -> str:
    """Regular expressions, with any text between them."""
    first, *middle = pieces
    if not middle:
        return first
    *middle, last = middle
    return "".join([first, *(f"(?>.*?{piece})" for piece in middle if piece), f".*{last}"])


def _escaped(part: str) -> str:
    return re.escape(part[1:] if len(part) == 2 and part[0] == "\\" else part)
