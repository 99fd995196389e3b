"""Every tenant, live: those of the configuration file, and those made through the API while the daemon runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import structlog

from dialerd.core.model import Tenant
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.store import tenants
from dialerd.store.db import Store
from dialerd.store.tx import Tx

log = structlog.get_logger(__name__)


class Tenants(Mapping[str, Tenant]):
    """Keeps the tenants: a change is in the store first, and at once in whatever looks here."""

    def __init__(self, configured: Iterable[Tenant], trunks: Collection[str], store: Store) -> None:
        self._all = {each.id: each for each in configured}
        self._in_file = frozenset(self._all)
        """The names of those that the configuration file has."""
        self._trunks = trunks
        self._store = store
        self.on_change: Callable[[Tenant], None] = lambda _tenant: None

    def __getitem__(self, tenant_id: str) -> Tenant:
        return self._all[tenant_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def live(self) -> Mapping[str, Tenant]:
        """A view that shows each change, as quick to ask as a dict: for the planner."""
        return MappingProxyType(self._all)

    def in_file(self, tenant_id: str) -> bool:
        """Whether the configuration file has a tenant."""
        return tenant_id in self._in_file

    def load(self, stored: Iterable[Tenant]) -> None:
        """Take up the tenants of the store. One that the file has, too, is the file's."""
        for each in stored:
            if each.id in self._in_file:
                log.warning("tenant_in_file_and_store", tenant=each.id)
            else:
                self._put(each)

    def follow(self, stored: Iterable[Tenant]) -> None:
        """Take up what another daemon has made or changed in the store."""
        for each in stored:
            if each.id not in self._in_file and self._all.get(each.id) != each:
                self._put(each)

    def take_up(self, configured: Iterable[Tenant], stored: Iterable[Tenant]) -> None:
        """Take up a changed configuration file; one that left it is gone, unless the store has it, too."""
        before, left = dict(self._all), self._in_file
        now = {each.id: each for each in configured}
        self._in_file = frozenset(now)
        found = {each.id: each for each in stored if each.id not in now}
        for tenant_id in left - now.keys() - found.keys():
            del self._all[tenant_id]
        for each in (*now.values(), *(found[name] for name in left & found.keys())):
            if before.get(each.id) != each:
                self._put(each)

    async def create(self, new: Tenant) -> None:
        """Make a tenant. Raises Rejected (``configured_in_file``, ``invalid_request``), StoreError."""
        self._check(new)

        async def insert(tx: Tx) -> None:
            if not await tenants.insert(tx, new):
                raise Rejected("invalid_request", "the request does not fit", [FieldError("id", "is taken")])

        await self._store.write(insert)
        self._put(new)
        log.info("tenant_made", tenant=new.id)

    async def change(self, changed: Tenant) -> None:
        """Change a tenant that is there; the next call obeys. Raises Rejected, StoreError."""
        self._check(changed)
        await self._store.write(lambda tx: tenants.update(tx, changed))
        self._put(changed)

    def _check(self, tenant: Tenant) -> None:
        self.expect_not_in_file(tenant.id)
        errors = [
            FieldError(f"trunks.{index}", f"names no trunk of the configuration: {name!r}")
            for index, name in enumerate(tenant.trunks)
            if name not in self._trunks
        ]
        own = tenant.settings.get("trunks", ())
        errors += [
            FieldError("settings.trunks", f"{name!r} is not among trunks") for name in own if name not in tenant.trunks
        ]
        if errors:
            raise Rejected("invalid_request", "the request does not fit", errors)

    def expect_not_in_file(self, tenant_id: str) -> None:
        """Raises Rejected (``configured_in_file``) for a tenant that only the configuration file can change."""
        if tenant_id in self._in_file:
            raise Rejected("configured_in_file", "the configuration file has this tenant; change it there")

    def _put(self, tenant: Tenant) -> None:
        self._all[tenant.id] = tenant
        self.on_change(tenant)
