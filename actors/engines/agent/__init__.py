"""The `agent` kind: a loop around a model, whose tools people allow, and what it keeps. It begins in `agent.py`."""

__all__: list[str] = []
