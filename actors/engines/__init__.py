"""The built-in kinds, loaded by `actors/kinds.py` when they are asked for; nothing is imported from here.

probe.py    does what it is told, for demos, benches and tests
shell.py    one persistent shell on a terminal: session.py, marker.py
acp/        any agent that speaks the Agent Client Protocol
process.py  a program in any language: program.py runs it, jsonl.py is the language

conversing.py and permitting.py are what the kinds share that talk: what they show, and what they may do.
"""

__all__: list[str] = []
