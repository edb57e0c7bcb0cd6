"""How a session comes to be: greet the agent, authenticate, then resume, load or begin a session, and set it up.

A session that an earlier incarnation left is resumed where the agent can, else loaded, and then what it tells over
again is not told a second time; else a new one begins, and that is said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from actors.engine import CannotStart
from actors.engines.acp.client import Client
from actors.engines.acp.config import AcpConfig
from actors.engines.acp.connection import Connection
from actors.engines.acp.facts import Facts
from actors.engines.acp.greeting import PROTOCOL, introduction
from actors.engines.acp.rpc import AUTH_REQUIRED, INVALID_PARAMS, NO_METHOD, Refused
from actors.engines.acp.story import Event, Said

__all__ = ["Session"]

ID_BYTES = 1 << 10
"""How long a session's id may be."""
SESSIONS = 1000
"""How many sessions are listed at most."""


class Session:
    """See the module.

    Args:
        servers: The MCP servers, as the protocol says them.
        tell: Shows what came of it.
        sentence: Makes half a sentence about the agent one that can be shown.
    """

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        config: AcpConfig,
        *,
        cwd: str,
        servers: list[dict[str, Any]],
        tell: Callable[[list[Said]], Awaitable[None]],
        sentence: Callable[[str], str],
    ) -> None:
        self._connection, self._facts, self._config = connection, facts, config
        self._cwd, self._servers, self._tell, self._sentence = cwd, servers, tell, sentence
        self.replayed: int | None = None
        """How many updates were told over again; None while none is."""
        self.opening = False
        """A session is about to be there: what is said of one whose id we do not know yet may be about it."""
        self.lost = ""
        """Why the session of before could not be found again."""
        self.step = ""
        """The method whose answer is waited for."""

    async def greet(self) -> None:
        """`initialize`. Raises CannotStart when the agent speaks another version or refuses."""
        try:
            result = await self._ask("initialize", introduction(Client.capabilities(self._config)))
        except Refused as refused:
            raise CannotStart(self._sentence(f"refused to begin: {refused}")) from None
        spoken = result.get("protocolVersion") if isinstance(result, dict) else None
        if type(spoken) is not int or spoken != PROTOCOL:
            said = "no version" if spoken is None else f"version {spoken!r:.20}"
            raise CannotStart(self._sentence(f"speaks {said} of the protocol; this house speaks {PROTOCOL}"))
        self._facts.initialized(result)
        self._check_servers()

    async def authenticate(self, method: str | None) -> None:
        """`authenticate` by the method that the config names, if it names one. Raises CannotStart."""
        if method is None:
            return
        if all(known["id"] != method for known in self._facts.methods):
            raise CannotStart(self._sentence(f"cannot be authenticated by {method!r}; it offers {self._methods()}"))
        try:
            await self._ask("authenticate", {"methodId": method})
        except Refused as refused:
            raise CannotStart(self._sentence(f"was not authenticated by {method!r}: {refused}")) from None

    async def open(self) -> str | None:
        """Find the session again, or begin one. What was lost with one that could not be found: the run that it had
        been asked to do. Raises CannotStart when somebody has to be authenticated first, else Refused.
        """
        kept, prompted = self._facts.session_id, self._facts.prompted
        why = ""
        if kept is not None:
            why = await self._find(kept)
            if not why:
                return None
        await self.new()
        if kept is None:
            return None
        self.lost = why
        await self._tell([Event("session", {"how": "lost", "id": kept, "reason": why})])
        return prompted

    async def _find(self, kept: str) -> str:
        """Why the session is not found again; nothing when it is."""
        why = "the agent can neither resume nor load a session"
        for method, how, can in (
            ("session/resume", "resumed", self._facts.can("sessionCapabilities", "resume")),
            ("session/load", "loaded", self._facts.can("loadSession")),
        ):
            if can:
                try:
                    await self._opened(method, how, kept)
                except Refused as refused:
                    why = f"{method}: {refused}"
                else:
                    return ""
        return why

    async def new(self) -> None:
        """Begin a session; the one before it is closed where the agent can do that."""
        before = self._facts.session_id
        try:
            await self._opened("session/new", "new", None)
        except Refused as refused:
            if refused.code == AUTH_REQUIRED:
                wants = f"wants somebody to be authenticated ({refused}); name one of its methods in `auth`"
                raise CannotStart(self._sentence(f"{wants}: {self._methods()}")) from None
            raise
        if before is not None and self._facts.can("sessionCapabilities", "close"):
            try:
                await self._ask("session/close", {"sessionId": before})
            except Refused as refused:
                await self._tell([Event("session", {"how": "not-closed", "id": before, "reason": str(refused)})])

    async def load(self, session_id: str) -> None:
        """Go over to another session of the agent's. Raises Refused, and then it stays where it is."""
        if why := await self._find(session_id):
            raise Refused(NO_METHOD, why)

    async def _opened(self, method: str, how: str, session_id: str | None) -> None:
        params: dict[str, Any] = {"cwd": self._cwd, "mcpServers": self._servers}
        if session_id is not None:
            params["sessionId"] = session_id
        self.opening, self.replayed = True, 0 if how == "loaded" else None
        try:
            result = await self._ask(method, params)
            replayed = self.replayed
        finally:
            self.opening, self.replayed = False, None
        found = session_id or (result.get("sessionId") if isinstance(result, dict) else None)
        if not isinstance(found, str) or not found or len(found.encode()) > ID_BYTES:
            raise Refused(INVALID_PARAMS, f"{method} was answered without a sessionId")
        self._facts.opened(found, how, result)
        told = {"how": how, "id": found, **({"replayed": replayed} if how == "loaded" else {})}
        await self._tell([Event("session", told), self._facts.slice])

    # -- settings ----------------------------------------------------------------------------------------------------
    async def set_up(self) -> None:
        """What the config says of the session. Raises CannotStart with what there is to choose from."""
        config = self._config
        try:
            for what, value in (("mode", config.mode), ("model", config.model)):
                if value is not None:
                    await self.set(what, value)
            for name, chosen in config.options.items():
                await self.set_option(name, chosen)
        except Refused as refused:
            raise CannotStart(self._sentence(f"does not take what its config says: {refused}")) from None

    async def set(self, what: str, value: str) -> None:
        """Set the `mode` or the `model`. Raises Refused."""
        method, params = self._facts.setting(what, value)
        result = await self._ask(method, params)
        await self._tell(self._was_set(what, value, method, result))

    async def set_option(self, name: str, value: str | bool) -> None:
        """Raises Refused."""
        method, params = self._facts.option(name, value)
        await self._tell(self._was_set(name, value, method, await self._ask(method, params)))

    def _was_set(self, what: str, value: str | bool, method: str, result: Any) -> list[Said]:
        if method == "session/set_config_option":
            options = result.get("configOptions") if isinstance(result, dict) else None
            return self._facts.configured(options) if options is not None else []
        return self._facts.was_set(what, str(value))

    async def list(self) -> list[dict[str, Any]]:
        """The agent's sessions for this directory. Raises Refused."""
        if not self._facts.can("sessionCapabilities", "list"):
            raise Refused(NO_METHOD, "the agent does not list its sessions")
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < SESSIONS:
            page = await self._ask("session/list", {"cwd": self._cwd, **({"cursor": cursor} if cursor else {})})
            sessions = page.get("sessions") if isinstance(page, dict) else None
            found += [one for one in sessions or () if isinstance(one, dict)]
            following = page.get("nextCursor") if isinstance(page, dict) else None
            if not isinstance(following, str) or following == cursor or not sessions:
                break
            cursor = following
        return found[:SESSIONS]

    # -- within ------------------------------------------------------------------------------------------------------
    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self.step = method
        return await self._connection.ask(method, params)

    def _methods(self) -> str:
        """The ways to be authenticated, with the variables that some of them read."""
        ways = []
        for method in self._facts.methods:
            names = [
                v["name"] for v in method.get("vars") or () if isinstance(v, dict) and isinstance(v.get("name"), str)
            ]
            ways.append(f"{method['id']!r}" + (f" (set {', '.join(names)})" if names else ""))
        return ", ".join(ways) or "no way"

    def _check_servers(self) -> None:
        for server in self._servers:
            kind = server.get("type")
            if kind is not None and not self._facts.can("mcpCapabilities", kind):
                raise CannotStart(self._sentence(f"takes no MCP server over {kind} ({server['name']!r})"))
