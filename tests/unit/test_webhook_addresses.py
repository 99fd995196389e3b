"""Where webhooks may go."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from dialerd.webhooks.addresses import GuardedResolver, NotAllowed, Rules, networks

INSIDE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "0.0.0.0", "255.255.255.255"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "fec0::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "2002:a00:1::", "64:ff9b:1::7f00:1"),
    *("::127.0.0.1", "fd00:ec2::254"),
]
OUTSIDE = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused(address: str) -> None:
    assert not Rules().allow(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Rules().allow(ipaddress.ip_address(address))


def test_the_configuration_may_allow_networks_and_no_more_than_those() -> None:
    rules = Rules(networks(["10.1.0.0/16", "127.0.0.1/32", "fd00::/8"]))
    for allowed in ("10.1.2.3", "127.0.0.1", "fd00::7", "::ffff:10.1.2.3", "8.8.8.8"):
        assert rules.allow(ipaddress.ip_address(allowed))
    for refused in ("10.2.0.1", "127.0.0.2", "::1", "fe80::1", "192.168.0.1", "::ffff:10.2.0.1"):
        assert not rules.allow(ipaddress.ip_address(refused))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("https:///x", "host"),
        ("//example.com/x", "https://"),
        ("example.com", "https://"),
        ("https://user:pass@example.com/", "user"),
        ("https://user@example.com/", "user"),
        ("https://example.com/#part", "fragment"),
        ("https://127.0.0.1/", "private"),
        ("https://[::1]/", "private"),
        ("https://[::ffff:10.0.0.1]/", "private"),
        ("https://[fe80::1%25eth0]/", "private"),
        ("https://169.254.169.254/latest/meta-data/", "private"),
        ("https://example.com:99999/", "URL"),
        ("https://exa mple.com/", "URL"),
        ("https://example.com/\r\nX: y", "URL"),
        ("https://ex\u00e4mple.com/", "ASCII"),
        ("https://example.com/" + "x" * 2000, "2000"),
    ],
)
def test_urls_that_are_none_of_an_endpoint(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Rules().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hooks?key=1",
        "https://8.8.8.8/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_urls_of_endpoints(url: str) -> None:
    Rules().check_url(url)


def test_plain_http_only_where_it_is_allowed() -> None:
    Rules(http=True).check_url("http://example.com/")


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name lead to these addresses; returns the names that are asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


async def test_a_name_is_connected_to_where_it_was_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "93.184.216.34", "10.0.0.1", "::1", "2606:4700::1111")
    resolver = GuardedResolver(Rules())
    found = await resolver.resolve("mixed.example", 443)
    # Of a name that leads inside and outside, only what is outside is left; and that is an address, no name.
    assert [(each["host"], each["port"]) for each in found] == [("93.184.216.34", 443), ("2606:4700::1111", 443)]
    assert all(each["flags"] & socket.AI_NUMERICHOST for each in found)
    assert asked == ["mixed.example"]
    await resolver.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1%eth0"])
async def test_a_name_that_leads_inside_leads_nowhere(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    answering(monkeypatch, address)
    resolver = GuardedResolver(Rules())
    with pytest.raises(NotAllowed, match="private"):
        await resolver.resolve("rebound.example", 443)
    await resolver.close()
