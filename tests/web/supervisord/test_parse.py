"""A configuration is read as supervisord reads it. `example/expected.json` is what its own reader (4.4.0.dev0) makes of
the example; HERE and NODE stand for the directory and the host.
"""

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from web.supervisord import Configuration, Program, Unreadable, read

EXAMPLE = Path(__file__).parent / "example"


def shown(program: Program) -> dict[str, Any]:
    same = (
        "group", "name", "command", "directory", "autostart", "autorestart", "startsecs", "startretries", "stopsignal",
        "stopwaitsecs", "redirect_stderr",
    )  # fmt: skip
    return {
        **{name: getattr(program, name) for name in same},
        "environment": dict(program.environment),
        "exitcodes": list(program.exitcodes),
        "stdout": program.stdout.path,
        "max_bytes": program.stdout.max_bytes,
        "backups": program.stdout.backups,
        "stderr": None if program.redirect_stderr else program.stderr.path,
    }


def parsed(tmp_path: Path, text: str, **environ: str) -> Configuration:
    path = tmp_path / "supervisord.conf"
    path.write_text(text)
    return read(path, environ)


def only(configuration: Configuration) -> Program:
    [program] = configuration.programs
    return program


def test_it_is_read_as_supervisord_reads_it() -> None:
    found = read(EXAMPLE / "supervisord.conf", {"WHO": "me"})
    text = (EXAMPLE / "expected.json").read_text().replace("HERE/", f"{EXAMPLE}/").replace('"HERE"', f'"{EXAMPLE}"')
    assert [shown(program) for program in found.programs] == json.loads(text.replace("NODE", platform.node()))


def test_what_is_no_program_is_named_with_the_reason() -> None:
    found = read(EXAMPLE / "supervisord.conf", {"WHO": "me"})
    assert {one.section: one.program for one in found.left} == {
        "unix_http_server": False,
        "inet_http_server": False,
        "rpcinterface:supervisor": False,
        "supervisorctl": False,
        "eventlistener:mail": True,
        "fcgi-program:f": True,
    }
    assert all(one.why for one in found.left)
    assert found.warnings == [f"No file matches '{EXAMPLE}/nothing/*.conf', which [include] names."]


def test_a_file_of_programs_alone_is_enough(tmp_path: Path) -> None:
    program = only(parsed(tmp_path, "[program:x]\ncommand=true\n"))
    assert (program.full_name, program.priority, program.exitcodes) == ("x", (999, 999), (0,))


@pytest.mark.parametrize(
    "line, why",
    [
        ("", "no `command`"),
        ("command=%(ENV_ABSENT)s", "command uses %(ENV_ABSENT)s, and there is no variable ABSENT in the environment"),
        ("command=%(absent)s", "command uses 'absent', which is none of group_name, here, "),
        ("command=100%", "a percent sign is written %%"),
        ("command=true\nnumprocs=2", "%(process_num)"),
        ("command=true\nnumprocs=many", "invalid literal"),
        ("command=true\nautorestart=perhaps", "no autorestart"),
        ("command=true\nautostart=perhaps", "neither true nor false"),
        ("command=true\nstopsignal=SIGNAL", "no signal"),
        ("command=true\nexitcodes=0,256", "not between 0 and 255"),
        ("command=true\nenvironment=A", "no list of KEY=value"),
        ("command=true\nstdout_logfile_maxbytes=1TB", "invalid literal"),
        ("command=true\nprocess_name=a b", "no name"),
    ],
)
def test_a_section_that_is_wrong_is_left_and_spares_the_others(tmp_path: Path, line: str, why: str) -> None:
    text = f"[program:wrong]\n{line}\n[program:right]\ncommand=true\n"
    found = parsed(tmp_path, text, HOME="/home")
    assert only(found).name == "right"
    [left] = found.left
    assert (left.section, left.program) == ("program:wrong", True)
    assert why in left.why


def test_a_group_that_names_what_is_not_there_is_left(tmp_path: Path) -> None:
    found = parsed(tmp_path, "[group:g]\nprograms=x\n")
    assert [(one.section, one.program) for one in found.left] == [("group:g", True)]


@pytest.mark.parametrize(
    "text, why",
    [
        ("no section", "no section"),
        ("[include]\n", "has no `files`"),
        ("[include]\nfiles=%(ENV_ABSENT)s\n", "ENV_ABSENT"),
    ],
)
def test_a_file_that_is_none_is_unreadable(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parsed(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="There is no file"):
        read(tmp_path / "absent.conf", {})
    (tmp_path / "binary").write_bytes(b"[a]\n\xff\xfe\n")
    with pytest.raises(Unreadable, match="cannot be read"):
        read(tmp_path / "binary", {})


@pytest.mark.parametrize(
    "text, said",
    [
        ("numprocs=100000000\nprocess_name=%(process_num)d", "numprocs=100000000 is more than"),
        ('numprocs=60\nprocess_name=p%(process_num)d\nenvironment=A="%(ENV_A)s%(ENV_A)s"', "would be longer than"),
        ("process_name=%(numprocs)999999999d", "has a width of four digits"),
        ("process_name=%(program_name).999999999s", "has a width of four digits"),
        ("directory=" + "%(ENV_LONG)s" * 5000, "would be longer than"),
    ],
)
def test_what_grows_without_end_is_the_fault_of_its_section(tmp_path: Path, text: str, said: str) -> None:
    found = parsed(tmp_path, f"[program:bomb]\ncommand=a\n{text}\n[program:fine]\ncommand=b\n", A="xx", LONG="x" * 1000)
    assert [program.name for program in found.programs] == ["fine"]
    assert said in found.left[0].why


def test_what_is_included_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "folder.conf").mkdir()
    found = parsed(tmp_path, "[include]\nfiles=pipe.conf folder.conf\n[program:a]\ncommand=a\n")
    assert [program.name for program in found.programs] == ["a"]
    assert [warning.endswith("is no file, and [include] names it.") for warning in found.warnings] == [True, True]
