"""Translation only: HTTP, server-sent events, client, command line and dashboard."""

__all__: list[str] = []
