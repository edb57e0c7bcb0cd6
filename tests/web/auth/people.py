"""What the tests beside this stand on."""

from typing import Any

from tests.web.doubles import NOW_S, Client, Got, MemoryTables, RecordingHouse, client, identity
from web.auth import Identity
from web.auth.users import NewUser

PASSWORD = "long enough by far"
AUTH = "/api/v1/auth"


class Clock:
    """Wall time that a test moves."""

    now = NOW_S

    def __call__(self) -> float:
        return self.now


class House:
    """Everybody, a client with the admin key and one with none. `tables` outlive it: `again()` is the next life."""

    def __init__(self, tables: MemoryTables | None = None, **more: Any) -> None:
        self.tables = tables or MemoryTables()
        self.wall = more.pop("wall", Clock())
        self.more = more
        self.house = RecordingHouse()
        self.who: Identity = identity(self.tables, wall=self.wall, **more)
        self.admin = client(self.house, identity=self.who)
        self.stranger = Client(self.admin.app, None)

    async def again(self) -> "House":
        house = House(self.tables, wall=self.wall, **self.more)
        await house.who.load()
        return house

    async def user(self, name: str = "ada", *scopes: str, **more: Any) -> None:
        await self.who.users.create(
            NewUser(name=name, password=PASSWORD, scopes=list(scopes or ("read",)), **more)  # type: ignore[arg-type]
        )

    async def login(self, name: str = "ada", password: str = PASSWORD, **more: Any) -> Got:
        return await self.stranger.post(f"{AUTH}/login", {"username": name, "password": password, **more})

    async def refresh(self, token: str) -> Got:
        return await self.stranger.post(f"{AUTH}/refresh", {"refresh_token": token})

    async def whoami(self, token: str) -> Got:
        return await self.stranger.get(f"{AUTH}/whoami", authorization=f"Bearer {token}")
