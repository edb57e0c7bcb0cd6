"""What every test stands on: the tree, hypothesis without a stopwatch, and no silent skip in CI."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from actors.children import Sandbox
from actors.processes.sandbox import lacking

# No deadline: on a shared machine it measures the neighbours. In CI the examples are the same each time.
settings.register_profile("house", deadline=None, derandomize=os.environ.get("CI") == "true", print_blob=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program("tmux")` is the path of a system program. Without it the test is skipped, or fails where CI=true."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI may not skip what needs it: add it to .ci/run", pytrace=False)
        return path or pytest.skip(f"{name} is not installed")

    return find


@pytest.fixture(scope="session")
def landlock() -> Sandbox:
    """A sandbox by the kernel, with the network open. Without Landlock the test is skipped, or fails where CI=true."""
    sandbox = Sandbox(by="landlock", network=True)
    if problem := lacking(sandbox):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI may not skip what needs a sandbox: {problem}", pytrace=False)
        pytest.skip(problem)
    return sandbox
