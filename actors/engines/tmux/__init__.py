"""tmux under the shell kind: a session that people can attach to, and that outlives the daemon. How: `session.py`."""

from actors.engines.tmux.server import found, lacking
from actors.engines.tmux.session import TmuxSession

__all__ = ["TmuxSession", "found", "lacking"]
