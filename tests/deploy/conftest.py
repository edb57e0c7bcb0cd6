"""A daemon in a process of its own, as the tests of web have it; and what the run has to say of containers."""

import pytest

from tests.web.conftest import certificate, serving

__all__ = ["certificate", "serving"]

NOT_STARTED = pytest.StashKey[str]()
"""Why nothing was started in a container, if so."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if NOT_STARTED in config.stash:
        terminalreporter.write_line(f"deploy: {config.stash[NOT_STARTED]}: its files were parsed, and not started")
