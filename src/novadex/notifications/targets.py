"""Where webhooks may lead: a URL that a user chose must not make the venue's machines talk to themselves.

The check is made on the addresses that a name stands for at that moment, and the connection goes to the address that
was checked: a name that answers otherwise the second time gains nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from novadex.errors import ValidationError
from novadex.notifications.names import NameLookUp
from novadex.notifications.outcomes import DeliveryFailedError

URL_MAX = 2_000
ADDRESSES_MAX = 3
"""Of a name, that are tried."""
PORTS = {"https": 443, "http": 80}
IPV6_PUBLIC = ip_network("2000::/3")
"""All that is given out of IPv6. Outside lie what leads on by an IPv4 address within (NAT64) and what is a network's
own (site-local, discard, segment routing)."""
NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, some of which the next router answers
        "192.31.196.0/24",  # AS112, as below
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays, given up
        "192.175.48.0/24",  # AS112: the nearest machine answers, and that may be one of ours
        "2001::/23",  # protocol assignments: Teredo, benchmarks, AMT, ORCHID
        "2001:db8::/32",
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
"""Special purposes that IANA's registries name and ``is_global`` of Python 3.11 does not know, or not all of."""
_PRINTABLE = re.compile(r"[!-~]+")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its parts."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """What the header Host says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: object, *, allow_http: bool, allow_private: bool) -> Target:
    """The parts of the URL of a webhook. Raises ``ValidationError`` for what is none, or not allowed as it stands; it
    does not repeat the URL, which may hold a secret.

    >>> parse_target("https://hooks.example/novadex?key=1", allow_http=False, allow_private=False).path
    '/novadex?key=1'
    """
    if not isinstance(url, str) or not 1 <= len(url) <= URL_MAX or not _PRINTABLE.fullmatch(url):
        raise _wrong(f"it must have 1 to {URL_MAX} characters of ASCII without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("it cannot be read") from None
    scheme = parts.scheme.lower()
    if scheme not in PORTS or (scheme == "http" and not allow_http):
        raise _wrong("it must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise _wrong("it must not hold a user or a password")
    if parts.fragment or "#" in url:
        raise _wrong("it must not have a part behind a #")
    host = (parts.hostname or "").lower()
    address = _address_of(host)
    if address is None and not HOST.fullmatch(host):
        raise _wrong("it names no host")
    if address is None and re.fullmatch(r"[0-9.]+|0x.*", host.rstrip(".").rpartition(".")[2]):
        raise _wrong("its host is a number and no address")  # 127.1 and 2130706433 are addresses to some resolvers
    if address is not None and not allow_private and not is_public(address):
        raise _wrong("it leads into a private network")
    if port == 0:
        raise _wrong("its port is 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, host, port or PORTS[scheme], path)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is of the public internet, also when it stands inside another one.

    >>> [is_public(ip_address(text)) for text in ("1.1.1.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False]
    >>> [is_public(ip_address(text)) for text in ("2606:4700::1111", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1")]
    [True, False, False, False]
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address not in IPV6_PUBLIC:
            return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(target: Target, names: NameLookUp, *, allow_private: bool) -> list[str]:
    """The addresses to connect to. One that is not allowed among them refuses the whole name.

    Raises ``DeliveryFailedError``.
    """
    try:
        found = await names.look_up(target.host)
    except (OSError, UnicodeError):
        raise DeliveryFailedError("its host has no address") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    if not addresses:
        raise DeliveryFailedError("its host has no address")
    if not allow_private and not all(is_public(ip_address(address)) for address in addresses):
        raise DeliveryFailedError("its host leads into a private network", permanent=True)
    return addresses[:ADDRESSES_MAX]


def _address_of(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _wrong(reason: str) -> ValidationError:
    return ValidationError(
        f"url is no address of a webhook: {reason}.", field="url", hint="Write it like https://example.com/hook."
    )
