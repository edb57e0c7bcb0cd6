"""The kind `inbox`: watches a folder, tells what arrives, and counts what it is asked to count."""

from enginehouse_inbox.engine import Inbox

__all__ = ["Inbox"]
