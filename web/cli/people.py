"""What engines ask people, and the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from web.cli import texts
from web.cli.asked import Asked, command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from protocol.wire import RequestInfo
    from supervisor.house import House

__all__ = ["add"]

T = TypeVar("T")

Request = Annotated[str, typer.Argument(help="The request's id, as `requests` lists it.", show_default=False)]
Digest = Annotated[str | None, typer.Option(help="The digest of what you saw; refused when it is another.")]
Comment = Annotated[str | None, typer.Option(help="A word with it.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this file."""
    for name, function in (("requests", requests), ("reply", reply), ("approve", approve), ("reject", reject)):
        command(app, name)(function)


def requests(
    asked: Asked,
    decided: Annotated[
        bool, typer.Option("--decided", help="Those that were decided, instead of the pending.")
    ] = False,
    engine: Annotated[str | None, typer.Option(help="Of this engine alone.")] = None,
    pool: Annotated[str | None, typer.Option(help="Of this pool alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
) -> None:
    """List what engines ask people."""
    state: Any = "decided" if decided else "pending"
    page = asked.house(lambda house: house.requests(state=state, engine=engine, pool=pool, limit=limit))
    columns = ("id", "engine_id", "kind", "title", "state", "asked_by", "watched", "deadline", "default")
    asked.table(page.items, *columns, empty="Nobody asks anything.")


def reply(
    asked: Asked,
    request: Request,
    option: Annotated[str | None, typer.Option(help="The id of one of its options.")] = None,
    answer: Annotated[str | None, typer.Option(help="An answer: text or JSON.")] = None,
    comment: Comment = None,
    digest: Digest = None,
) -> None:
    """Decide a request: with an option, an answer, or both."""
    from protocol.bodies import ReplyBody

    if option is None and answer is None:
        raise typer.BadParameter("give --option, --answer, or both")
    body = ReplyBody(
        option=option, answer=None if answer is None else texts.value(answer), comment=comment, digest=digest
    )
    decided = _asked_for(asked, request, lambda house: house.reply(request, body))
    option = (decided.decision or {}).get("option")
    asked.done(decided, f"{decided.id} is {decided.state}{f' ({option})' if option else ''}")


def approve(asked: Asked, request: Request, comment: Comment = None, digest: Digest = None) -> None:
    """Approve what is asked. Without a digest, what the house shows under this id now is what you saw. It looks at the
    request first, so the key needs the scope read too; `reply` does not.
    """
    from protocol import commands

    _decide(
        asked,
        request,
        lambda shown: commands.Approve(request_id=request, comment=comment, digest=digest or shown.digest),
    )


def reject(asked: Asked, request: Request, comment: Comment = None) -> None:
    """Refuse what is asked. Needs the scope read too; `reply` does not."""
    from protocol import commands

    _decide(asked, request, lambda shown: commands.Reject(request_id=request, feedback=comment))


def _decide(asked: Asked, request: str, body: Callable[[RequestInfo], Any]) -> None:
    async def work(house: House) -> Any:
        shown = await house.request(request)
        sent = body(shown)
        await house.command(shown.engine_id, sent, wait_s=10)
        return await house.request(request), sent

    decided, sent = _asked_for(asked, request, work)
    asked.done(decided, f"{decided.id} is {decided.state} ({sent.type})")


def _asked_for(asked: Asked, request: str, do: Callable[[House], Awaitable[T]]) -> T:
    """Raises NotFound; for what is no request's id with where those are found, since an engine's is easily given."""
    from protocol.errors import NotFound

    try:
        return asked.house(do)
    except NotFound as error:
        if request.startswith("req_"):
            raise
        raise NotFound(f"{error} It takes an id that `enginehouse requests` lists, and not an engine's.") from None
