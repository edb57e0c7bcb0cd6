"""Every route of the native API, one file for each noun."""

from web.route import Route
from web.routes import (
    audit,
    auth,
    commands,
    dead_letters,
    docs,
    engines,
    events,
    health,
    kinds,
    output,
    pools,
    requests,
    runs,
)

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = tuple(
    route
    for module in (
        engines,
        commands,
        runs,
        output,
        requests,
        events,
        pools,
        dead_letters,
        kinds,
        auth,
        audit,
        health,
        docs,
    )
    for route in module.section.routes
)
