"""Every route of the native API, one file for each noun."""

from web.route import Route
from web.routes import (
    admin,
    audit,
    auth,
    commands,
    dead_letters,
    docs,
    engines,
    events,
    health,
    kinds,
    logs,
    metrics,
    output,
    pools,
    requests,
    runs,
    schedules,
    users,
    webhooks,
)

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = tuple(
    route
    for module in (
        engines,
        commands,
        runs,
        logs,
        output,
        requests,
        events,
        pools,
        dead_letters,
        schedules,
        webhooks,
        kinds,
        auth,
        users,
        admin,
        audit,
        health,
        metrics,
        docs,
    )
    for route in module.section.routes
)
