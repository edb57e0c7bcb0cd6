"""A supervisord configuration as engines of the `process` kind: `parse` reads it as supervisord would, `translate` says
what becomes of each program. Nothing of supervisord's is imported.
"""

from web.supervisord.parse import Configuration, Left, Program, Unreadable, read
from web.supervisord.translate import Taken, translate

__all__ = ["Configuration", "Left", "Program", "Taken", "Unreadable", "read", "translate"]
