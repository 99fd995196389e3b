"""API keys in the store: shown once when made, kept as a salted scrypt digest (RFC 7914)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import read_id, show_id
from dialerd.store.db import Store
from dialerd.store.schema import api_key
from dialerd.store.tx import Tx

_PREFIX = "dk"
# 16 MB and some 50 ms a guess (n * r * 128 bytes); a good key is remembered by the API, so it is paid once.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1


class Role(StrEnum):
    """What a key may do: each of the tenant's roles includes those before it; a system key stands beside them."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from."""

    key_id: int
    tenant: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be told of a key."""

    id: int
    tenant: str | None
    role: Role
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: enough to check one that is shown to us, and not to make one."""

    principal: Principal
    salt: bytes
    digest: bytes

    def fits(self, secret: str) -> bool:
        """Check a secret in constant time. Takes some 50 ms of CPU: call it in a thread."""
        return hmac.compare_digest(_digest(secret, self.salt), self.digest)


async def create(store: Store, tenant: str | None, role: Role, name: str) -> str:
    """Make a key and return it: the only time that it is seen whole."""
    _, key = await make(store, tenant, role, name)
    return key


class TooManyKeys(Exception):
    """The tenant has as many keys as it may have."""


async def make(
    store: Store,
    tenant: str | None,
    role: Role,
    name: str,
    *,
    most: int | None = None,
    turn: AbstractAsyncContextManager[None] | None = None,
) -> tuple[KeyInfo, str]:
    """Make a key; returns it, the only time that it is seen whole, and what may be told of it.

    ``most``: so many may the tenant have. ``turn`` is held while the digest is computed. Raises TooManyKeys.
    """
    clock = store.clock
    info = KeyInfo(clock.number(), tenant, role, name, clock.wall())
    secret, salt = clock.token(), clock.token(16).encode()
    async with store.read() as conn:
        await _expect_room(conn, tenant, most)
    with clock.hold():
        async with turn or contextlib.nullcontext():
            digest = await asyncio.to_thread(_digest, secret, salt)

    async def insert(tx: Tx) -> None:
        await _expect_room(tx.conn, tenant, most)
        await tx.conn.execute(
            sa.insert(api_key).values(
                id=info.id,
                tenant=tenant,
                role=role.value,
                name=name,
                salt=salt.decode(),
                digest=digest.hex(),
                created_at=info.created_at,
            )
        )

    await store.write(insert)
    return info, f"{_PREFIX}_{show_id(info.id)}_{secret}"


async def _expect_room(conn: AsyncConnection, tenant: str | None, most: int | None) -> None:
    if most is not None:
        count = await conn.scalar(sa.select(sa.func.count()).select_from(api_key).where(api_key.c.tenant == tenant))
        if (count or 0) >= most:
            raise TooManyKeys


async def page(
    conn: AsyncConnection, tenant: str | None, *, limit: int, offset: int, after: int | None = None
) -> tuple[list[KeyInfo], int]:
    """A part of a tenant's keys (None: of all, system keys included), oldest first, and how many there are."""
    ours = sa.true() if tenant is None else api_key.c.tenant == tenant
    total = await conn.scalar(sa.select(sa.func.count()).select_from(api_key).where(ours))
    query = sa.select(api_key).where(ours).order_by(api_key.c.id).limit(limit).offset(offset)
    if after is not None:
        query = query.where(api_key.c.id > after)
    return [_info(row) for row in (await conn.execute(query)).mappings()], total or 0


async def remove(tx: Tx, tenant: str | None, key_id: int) -> bool:
    """Remove a key of a tenant (None: of any); False where there is none."""
    query = sa.delete(api_key).where(api_key.c.id == key_id)
    if tenant is not None:
        query = query.where(api_key.c.tenant == tenant)
    return (await tx.conn.execute(query)).rowcount > 0


def _info(row: Mapping[Any, Any]) -> KeyInfo:
    return KeyInfo(row["id"], row["tenant"], Role(row["role"]), row["name"], row["created_at"])


def split(key: str) -> tuple[int, str] | None:
    """The id and the secret of a key as it is shown to us; None where it has not the form of a key."""
    prefix, _, rest = key.partition("_")
    shown, _, secret = rest.partition("_")
    key_id = read_id(shown)
    if prefix != _PREFIX or key_id is None or not secret or not key.isascii():
        return None
    return key_id, secret


async def get(conn: AsyncConnection, key_id: int) -> StoredKey | None:
    """One key by its id."""
    row = (await conn.execute(sa.select(api_key).where(api_key.c.id == key_id))).mappings().first()
    if row is None:
        return None
    principal = Principal(row["id"], row["tenant"], Role(row["role"]))
    return StoredKey(principal, row["salt"].encode(), bytes.fromhex(row["digest"]))


async def standing(conn: AsyncConnection, key_ids: Collection[int]) -> set[int]:
    """Those of some keys that still stand."""
    return set(await conn.scalars(sa.select(api_key.c.id).where(api_key.c.id.in_(key_ids))))


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=2**26)
