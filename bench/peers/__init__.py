"""Servers for the benches, each a program of its own: ours, and what somebody would use instead.

Each listens on loopback, on a free port, and prints one line of JSON with the port when it is ready. They answer the
same: `POST /commands` takes a small JSON object and answers 202; `GET /health`; `GET /events` streams `RATE` events per
second to everybody who reads. They end with SIGTERM.
"""
