"""The acp kind: any agent that speaks the Agent Client Protocol (agentclientprotocol.com), version 1, on its streams.

engine.py      the kind: the agent's life, and a run as one turn of its session
config.py      what its config and a run's input may be; presets.py how known agents are started
rpc.py         JSON-RPC as the protocol uses it: values and bookkeeping, no I/O
connection.py  the same, with tasks that wait for answers
session.py     initialize, authenticate, and how a session is begun or found again
turn.py        one prompt, from its first word to its stop reason, pauses and cancellation among it
story.py       what the agent says, as events and slices: no I/O; calls.py a tool call, as rules and people see it
serving.py     the agent's requests, a task each
client.py      what it may ask of us: asking.py people, files.py files, terminals.py commands
"""

__all__: list[str] = []
