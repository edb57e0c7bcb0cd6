"""Access tokens, and the secret that signs them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from web.cli import show
from web.cli.asked import Asked, command
from web.cli.typed import password, secret
from web.places import DaemonFile, Problem, jwt_secret_file

__all__ = ["app"]

app = typer.Typer(help="Access tokens, and what signs them.", no_args_is_help=True, rich_markup_mode=None)


@command(app)
def create(
    asked: Asked,
    user: Annotated[str | None, typer.Option(help="Log in as this user; the password is asked for.")] = None,
) -> None:
    """Print an access token, good for 15 minutes: of a user, or in exchange for the API key."""
    if user is None:
        given: Any = asked.remote(lambda house: house.call("POST", "auth", "api-key"))
    else:
        body = {"username": user, "password": password(new=False)}
        given = asked.remote(lambda house: house.call("POST", "auth", "login", body=body))
    asked.done(given, given["access_token"])


@command(app)
def inspect(asked: Asked) -> None:
    """Show what a token says, which is asked for, or is the first line of stdin. It is not verified."""
    import base64
    import json

    from protocol.times import rfc3339

    parts = secret("Token").split(".")
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
        said = {**header, **claims}
        times = {name: rfc3339(said[name] * 1000) for name in ("iat", "nbf", "exp") if isinstance(said.get(name), int)}
    except (ValueError, TypeError, OverflowError):
        raise typer.BadParameter("This is no access token: only those of `token create` can be read.") from None
    if asked.json:
        show.print_json({"header": header, "claims": claims})
    else:
        show.record(said | times)


@command(app)
def rotate(
    asked: Asked,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Tokens that are out are not believed any more (the secret is known).")
    ] = False,
) -> None:
    """Sign with a new secret: through the daemon, or in its file when none runs. Tokens that are out stay good."""
    if DaemonFile.live(asked.folder) is not None or asked.url is not None or os.environ.get("ENGINEHOUSE_URL"):
        body = {"at_once": at_once}
        done: Any = asked.remote(lambda house: house.call("POST", "auth", "rotate", body=body))
    else:
        done = _rotated_file(asked, at_once)
    asked.done(done, f"{done['kid']} signs access tokens")


def _rotated_file(asked: Asked, at_once: bool) -> dict[str, Any]:
    import time

    from protocol.times import rfc3339
    from web.auth.signing import rotate_signing_keys

    state = asked.folder
    if not state.is_dir():
        raise Problem(f"{state}: there is no such state folder; name one with --state-dir.")
    keys = rotate_signing_keys(jwt_secret_file(os.environ, state), time.time(), at_once=at_once)
    until = keys.previous.until if keys.previous else None
    return {"kid": keys.current.kid, "previous_until": None if until is None else rfc3339(round(until * 1000))}
