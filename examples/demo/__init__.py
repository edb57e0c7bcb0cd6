"""`make demo`: a house shown in about a minute, without anybody at the keyboard.

    .venv/bin/python -m examples.demo

It starts a real daemon of its own (a temporary state directory, a free port), puts several engines to work, pauses
them in the middle, answers a question, crashes an engine, kills the daemon with -9 and starts it again, and disposes of
everything. Each thing it says is checked first; the exit code is 0 only when all of it really happened.

`scenes` is what is shown; `daemon`, `watcher` and `processes` are what it stands on, and `saying` is how it speaks.
"""

__all__: list[str] = []
