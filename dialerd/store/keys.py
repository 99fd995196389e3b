"""API keys in the store: shown once when made, kept as a salted scrypt digest (RFC 7914)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

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
    clock = store.clock
    key_id, secret, salt = clock.number(), clock.token(), clock.token(16).encode()
    digest = _digest(secret, salt)

    async def insert(tx: Tx) -> None:
        await tx.conn.execute(
            sa.insert(api_key).values(
                id=key_id,
                tenant=tenant,
                role=role.value,
                name=name,
                salt=salt.decode(),
                digest=digest.hex(),
                created_at=clock.wall(),
            )
        )

    await store.write(insert)
    return f"{_PREFIX}_{show_id(key_id)}_{secret}"


def split(key: str) -> tuple[int, str] | None:
    """The id and the secret of a key as it is shown to us; None where it has not the form of a key."""
    prefix, _, rest = key.partition("_")
    shown, _, secret = rest.partition("_")
    key_id = read_id(shown)
    return (key_id, secret) if prefix == _PREFIX and key_id is not None and secret else None


async def get(conn: AsyncConnection, key_id: int) -> StoredKey | None:
    """One key by its id."""
    row = (await conn.execute(sa.select(api_key).where(api_key.c.id == key_id))).mappings().first()
    if row is None:
        return None
    principal = Principal(row["id"], row["tenant"], Role(row["role"]))
    return StoredKey(principal, row["salt"].encode(), bytes.fromhex(row["digest"]))


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=2**26)
