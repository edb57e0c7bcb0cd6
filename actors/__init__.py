"""One engine, one mailbox, one loop."""
