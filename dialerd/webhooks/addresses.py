"""Where webhooks may go: never to an address inside the house, unless the configuration names its network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_URL = 2000
_THREADS = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotAllowed(OSError):
    """The address is one that webhooks may not go to."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration allows beyond https to public addresses."""

    private: tuple[Network, ...] = ()
    http: bool = False

    def check_url(self, text: str) -> None:
        """See that a URL may be an endpoint's, as far as it tells without asking for its name. Raises ValueError."""
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise ValueError("must be a URL") from None
        if len(text) > MOST_URL or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"must be a URL of at most {MOST_URL} printable ASCII characters")
        if url.scheme != "https" and not (url.scheme == "http" and self.http):
            raise ValueError("must begin with https://")
        if not url.host or port is None:
            raise ValueError("must name a host")
        if url.user is not None or url.password is not None or url.fragment:
            raise ValueError("must hold no user, password or fragment")
        literal = _literal(url.host)
        if literal is not None and not self.allow(literal):
            raise ValueError("must not lead to a private address; see webhooks.allow_private of the configuration")

    def allow(self, address: Address) -> bool:
        """Whether webhooks may go to an address."""
        faces = tuple(_faces(address))
        # Each face of an address must be allowed: ::ffff:127.0.0.1 is the loopback, whatever else it is.
        return all(_is_public(face) or any(_within(face, net) for net in self.private) for face in faces)


class GuardedResolver(AbstractResolver):
    """Resolves names to allowed addresses only. What it returns is connected to: a name cannot change in between."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        # Threads of its own: a name server that hangs must not keep the daemon's others from their work.
        self._threads = ThreadPoolExecutor(_THREADS, "webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises OSError where it has no address, NotAllowed where it has none that is allowed."""
        ask = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        allowed = [each for each in found if self._rules.allow(ipaddress.ip_address(str(each[4][0]).partition("%")[0]))]
        if not allowed:
            raise NotAllowed("the name leads to a private address; see webhooks.allow_private of the configuration")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in allowed
        ]

    async def close(self) -> None:
        """Ask for no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks as the configuration writes them. Raises ValueError."""
    return tuple(ipaddress.ip_network(each) for each in texts)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _faces(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that it stands for (mapped, 6to4, Teredo, NAT64)."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in _NAT64:
            yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64):
        return True  # its other face tells
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False  # deprecated (RFC 3879), and global to the library
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
