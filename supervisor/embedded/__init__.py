"""The embedded house: the whole `House` interface on a supervisor of this process, a file for each noun."""

from supervisor.embedded.house import EmbeddedHouse

__all__ = ["EmbeddedHouse"]
