"""What is known of the agent and its session: the slice `session`, and how a mode, a model or an option is asked for.

Agents say modes and models in one of two ways, as options of the session with a category, or in lists of their own; an
option wins, since that is where the protocol went. Values, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.engines.acp.rpc import INVALID_PARAMS, Refused
from actors.engines.acp.story import Event, Said, Slice, unknown
from actors.engines.conversing import brief, shortened
from protocol.events import encode

__all__ = ["Facts"]

LISTED = 200
"""How many modes, options and commands are shown."""

WORD_BYTES = 1 << 10
OPTIONS_BYTES = 64 << 10
"""How large what is shown of one option may be; and of all, before one more."""


class Facts:
    """See the module. `kept`: what an earlier incarnation left in the slice."""

    def __init__(self, kept: Mapping[str, Any] | None) -> None:
        self._known: dict[str, Any] = dict(kept or {})
        self._capabilities: dict[str, Any] = {}
        self.methods: list[dict[str, Any]] = []
        """How somebody can be authenticated: `{id, name, type?, vars?}`."""

    @property
    def slice(self) -> Slice:
        return Slice("session", dict(self._known))

    @property
    def session_id(self) -> str | None:
        found = self._known.get("id")
        return found if isinstance(found, str) else None

    @property
    def prompted(self) -> str | None:
        """The run that the session was last asked to do."""
        return self._known.get("prompted")

    def prompt(self, run_id: str) -> None:
        self._known["prompted"] = run_id

    # -- the agent ---------------------------------------------------------------------------------------------------
    def initialized(self, result: Mapping[str, Any]) -> None:
        """What it answered to `initialize`."""
        info = _dict(result.get("agentInfo"))
        self._capabilities = _dict(result.get("agentCapabilities"))
        self.methods = [m for m in _list(result.get("authMethods")) if isinstance(m.get("id"), str)]
        self._known["protocol"] = result.get("protocolVersion")
        self._known["agent"] = {name: _word(info.get(name)) for name in ("name", "title", "version") if info.get(name)}
        self._known["capabilities"] = brief(self._capabilities, 4 * WORD_BYTES)

    def can(self, *names: str) -> bool:
        """Whether the agent advertises it: `can("sessionCapabilities", "resume")`."""
        found: Any = self._capabilities
        for name in names:
            found = _dict(found).get(name)
        return found is not None and found is not False

    # -- the session -------------------------------------------------------------------------------------------------
    def opened(self, session_id: str, how: str, result: Any) -> None:
        """A session is there: `new`, `resumed` or `loaded`. What `result` does not say of an old one stays known."""
        said = _dict(result)
        if how == "new":
            for name in ("title", "prompted", "commands", "modes", "models", "options"):
                self._known.pop(name, None)
        self._known |= {"id": session_id, "opened": how}
        if modes := _choice(said.get("modes"), "currentModeId", "availableModes", "id"):
            self._known["modes"] = modes
        if models := _choice(said.get("models"), "currentModelId", "availableModels", "modelId"):
            self._known["models"] = models
        if said.get("configOptions") is not None:
            self._known["options"] = _options(said["configOptions"])

    def take(self, update: Mapping[str, Any]) -> list[Said] | None:
        """What an update says about the session; None when it is about something else."""
        match update:
            case {"sessionUpdate": "current_mode_update", "currentModeId": str(mode)}:
                self._known["modes"] = {**self._known.get("modes", {"available": []}), "current": _word(mode)}
                return [Event("mode", {"mode": _word(mode)}), self.slice]
            case {"sessionUpdate": "available_commands_update", "availableCommands": list(commands)}:
                self._known["commands"] = [
                    {"name": _word(command["name"]), "description": _word(command.get("description"))}
                    for command in _list(commands)[:LISTED]
                    if isinstance(command.get("name"), str)
                ]
                return [Event("commands", {"commands": self._known["commands"]}), self.slice]
            case {"sessionUpdate": "config_option_update", "configOptions": list(options)}:
                return self.configured(options)
            case {"sessionUpdate": "session_info_update"}:
                if isinstance(update.get("title"), str):
                    self._known["title"] = _word(update["title"])
                return [self.slice]
            case {"sessionUpdate": "current_mode_update" | "available_commands_update" | "config_option_update"}:
                return [unknown(update)]
        return None

    def configured(self, options: object) -> list[Said]:
        """The options as they are now."""
        self._known["options"] = _options(options)
        return [Event("options", {"options": self._known["options"]}), self.slice]

    # -- what can be set ---------------------------------------------------------------------------------------------
    def setting(self, what: str, value: str) -> tuple[str, dict[str, Any]]:
        """The method and its params that set the `mode` or the `model`. Raises Refused with what there is."""
        for option in self._known.get("options", ()):
            if option.get("category") == what or (option.get("category") is None and option["id"] == what):
                return self.option(option["id"], value)
        list_of = {"mode": ("modes", "session/set_mode", "modeId"), "model": ("models", "session/set_model", "modelId")}
        slot, method, name = list_of[what]
        found = self._known.get(slot)
        if found is None:
            raise Refused(INVALID_PARAMS, f"the agent lets nobody choose its {what}")
        _among(what, value, [choice["id"] for choice in found["available"]])
        return method, {"sessionId": self.session_id, name: value}

    def was_set(self, what: str, value: str) -> list[Said]:
        """The agent took a mode or a model that it has a list for."""
        slot = f"{what}s"
        self._known[slot] = {**self._known.get(slot, {"available": []}), "current": value}
        return [Event(what, {what: value}), self.slice]

    def option(self, name: str, value: str | bool) -> tuple[str, dict[str, Any]]:
        """The method and its params that set an option. Raises Refused with what there is."""
        options = {option["id"]: option for option in self._known.get("options", ())}
        if name not in options:
            _among("option", name, list(options))
        chosen: dict[str, Any] = {"sessionId": self.session_id, "configId": name, "value": value}
        if isinstance(value, bool):
            chosen["type"] = "boolean"
        elif options[name].get("values"):
            _among(f"value of {name!r}", value, options[name]["values"])
        return "session/set_config_option", chosen


def _among(what: str, value: str, known: list[str]) -> None:
    if value not in known and len(known) < LISTED:  # of a longer list we know only the beginning
        there = ", ".join(map(repr, known[:50])) or "none"
        raise Refused(INVALID_PARAMS, f"the agent has no {what} {value!r}; there is {there}")


def _choice(said: object, current: str, available: str, name: str) -> dict[str, Any] | None:
    found = _dict(said)
    if not isinstance(found.get(current), str):
        return None
    listed = [
        {"id": _word(choice[name]), "name": _word(choice.get("name"))}
        for choice in _list(found.get(available))[:LISTED]
        if isinstance(choice.get(name), str)
    ]
    return {"current": _word(found[current]), "available": listed}


def _options(said: object) -> list[dict[str, Any]]:
    """Each as `{id, name, type, value, values?, category?}`; values in groups are one list."""
    options: list[dict[str, Any]] = []
    for option in _list(said)[:LISTED]:
        if not isinstance(option.get("id"), str) or len(encode(options)) > OPTIONS_BYTES:
            continue
        shown = {
            "id": _word(option["id"]),
            "name": _word(option.get("name")),
            "type": _word(option.get("type")),
            "value": brief(option.get("currentValue"), WORD_BYTES),
        }
        groups = _list(option.get("options"))
        values = [choice for group in groups for choice in (_list(group.get("options")) or [group])]
        if values:
            shown["values"] = [
                _word(value["value"]) for value in values[:LISTED] if isinstance(value.get("value"), str)
            ]
            while len(encode(shown["values"])) > OPTIONS_BYTES:
                del shown["values"][len(shown["values"]) // 2 :]
        if isinstance(option.get("category"), str):
            shown["category"] = _word(option["category"])
        options.append(shown)
    return options


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    """The objects in a list; nothing when it is none."""
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []


def _word(value: object) -> str:
    return shortened(value, WORD_BYTES) if isinstance(value, str) else ""
