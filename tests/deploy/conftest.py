"""A daemon in a process of its own, as the tests of web have it."""

from tests.web.conftest import serving

__all__ = ["serving"]
