"""The built-in kinds, loaded by `actors/kinds.py` when they are asked for; nothing is imported from here.

probe.py    does what it is told, for demos, benches and tests
shell.py    one persistent shell on a terminal: session.py, marker.py
process.py  a program in any language: program.py runs it, jsonl.py is the language
"""

__all__: list[str] = []
