"""/keys: listed without their secrets, made, and deleted. System keys are made on the command line only."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from dialerd.api.auth import Doorkeeper
from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Request
from dialerd.api.fields import In, Listing, Name, NoQuery, Out, Reference, Window
from dialerd.api.problems import INVALID_REQUEST, KEY_NOT_FOUND, TOO_MANY_KEYS, refuse, unfit
from dialerd.api.routes import AnyRoute, Route
from dialerd.api.streams import Streams
from dialerd.clock import read_id, show_id
from dialerd.dispatch.errors import FieldError
from dialerd.store import keys
from dialerd.store.keys import KeyInfo, Role
from dialerd.store.tx import Tx

MOST_PER_TENANT = 100


class KeyIn(In):
    """A new key."""

    name: Name
    role: Literal["viewer", "operator", "admin"]
    tenant: Reference | None = None
    """Required with a system key, which must say whose the new key is; else the caller's own, or left out."""


class KeyOut(Out):
    """A key, without its secret."""

    id: str
    tenant: str | None
    """Null: a system key."""
    role: Role
    name: str
    created_at: datetime


class KeyCreated(KeyOut):
    """A new key, whole: it is never shown again."""

    key: str


class KeysResource:
    """Keys, and what they open: a deleted one is shut out at once, from streams that it has opened before, too."""

    def __init__(self, door: Doorkeeper, streams: Streams) -> None:
        self._door = door
        self._streams = streams

    async def index(self, request: Request[Window, None]) -> Listing[KeyOut]:
        """List the keys: a tenant's own, or all of them for a system key."""
        window, own = request.query, request.own_tenant
        async with request.api.store.read() as conn:
            found, total = await keys.page(
                conn,
                None if own is None else own.id,
                limit=window.limit + 1,
                offset=window.offset,
                after=None if window.after is None else read_id(window.after) or 0,
            )
        shown = [KeyOut(**_values(each)) for each in found]
        return Listing[KeyOut].of(shown, window, total, [each.id for each in shown])

    async def create(self, request: Request[NoQuery, KeyIn]) -> KeyCreated:
        """Make a key of a tenant. It is shown this once."""
        given = request.body
        tenant = given.tenant if request.own_tenant is None else request.own_tenant.id
        if tenant is None:
            raise unfit([FieldError("tenant", "is required with a system key")])
        if tenant not in request.api.tenants or given.tenant not in (None, tenant):
            raise unfit([FieldError("tenant", "names no tenant")])
        try:
            info, key = await keys.make(
                request.api.store,
                tenant,
                Role(given.role),
                given.name,
                most=MOST_PER_TENANT,
                turn=self._door.turns.take(),
            )
        except keys.TooManyKeys:
            raise refuse(TOO_MANY_KEYS, f"a tenant has {MOST_PER_TENANT} keys at most") from None
        return KeyCreated(**_values(info), key=key)

    async def delete(self, request: Request[NoQuery, None]) -> None:
        """Delete a key. It opens nothing from then on."""
        key_id = request.path_id("key_id", KEY_NOT_FOUND)
        tenant = None if request.own_tenant is None else request.own_tenant.id

        async def remove(tx: Tx) -> bool:
            return await keys.remove(tx, tenant, key_id)

        if not await request.api.store.write(remove):
            raise refuse(KEY_NOT_FOUND)
        self._door.forget(key_id)
        self._streams.forget(key_id)

    def routes(self) -> tuple[AnyRoute, ...]:
        """The routes of this resource."""
        return (
            Route(
                "GET",
                "/keys",
                Role.ADMIN,
                self.index,
                Window,
                NoBody(),
                Listing[KeyOut],
                200,
                (INVALID_REQUEST,),
                for_system=True,
            ),
            Route(
                "POST",
                "/keys",
                Role.ADMIN,
                self.create,
                NoQuery,
                JsonBody(KeyIn),
                KeyCreated,
                201,
                (INVALID_REQUEST, TOO_MANY_KEYS),
                for_system=True,
                secret=True,
            ),
            Route(
                "DELETE",
                "/keys/{key_id}",
                Role.ADMIN,
                self.delete,
                NoQuery,
                NoBody(),
                None,
                204,
                (KEY_NOT_FOUND,),
                for_system=True,
            ),
        )


def _values(info: KeyInfo) -> dict[str, object]:
    return {
        "id": show_id(info.id),
        "tenant": info.tenant,
        "role": info.role,
        "name": info.name,
        "created_at": info.created_at,
    }
