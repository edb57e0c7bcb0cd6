"""One engine, one mailbox, one loop."""

__all__: list[str] = []
