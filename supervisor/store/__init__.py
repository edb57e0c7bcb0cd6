"""Where the journal lives: the contract, and its homes in memory and in SQLite.

`contract` is what the house knows of a store. `ledger` turns a batch of writes into numbered, hashed rows, keys and
records and does no I/O, so both homes agree by construction; each home only keeps what the ledger gives it. `audit`
reads a store back and says whether it is what it claims to be.
"""

__all__: list[str] = []
