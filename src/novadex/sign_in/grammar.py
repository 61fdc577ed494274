"""The small grammars inside a message: URIs (RFC 3986), times (RFC 3339), host names.

All of it is ASCII. A name in another script has to be written as the browser sends it, in punycode, so that a
look-alike letter is never taken for the letter it looks like.
"""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import AddressValueError, IPv6Address

UNRESERVED = r"A-Za-z0-9\-._~"
SUB_DELIMS = r"!$&'()*+,;="
ESCAPED = r"%[0-9A-Fa-f]{2}"
PCHAR = rf"(?:[{UNRESERVED}{SUB_DELIMS}:@]|{ESCAPED})"

STATEMENT = re.compile(rf"[{UNRESERVED}{SUB_DELIMS}:/?#\[\]@ ]+")
"""EIP-4361: reserved and unreserved characters of RFC 3986, and spaces."""
REQUEST_ID = re.compile(rf"{PCHAR}*")

_URI = re.compile(
    rf"""
    (?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*):
    (?:
        //(?P<authority>
            (?:(?:[{UNRESERVED}{SUB_DELIMS}:]|{ESCAPED})*@)?
            (?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?:[{UNRESERVED}{SUB_DELIMS}]|{ESCAPED})*)
            (?::[0-9]*)?
        )
        (?:/{PCHAR}*)*
      | /(?:{PCHAR}+(?:/{PCHAR}*)*)?
      | {PCHAR}+(?:/{PCHAR}*)*
    )
    (?:\?(?:{PCHAR}|[/?])*)?
    (?:\#(?:{PCHAR}|[/?])*)?
    """,
    re.VERBOSE,
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|{_LABEL}(?:\.{_LABEL})*)(?::(?P<port>[1-9][0-9]{{0,4}}))?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+\-][0-9]{2}:[0-9]{2})"
)
DOMAIN_LENGTH_MAX = 255
PORT_MAX = 65_535


def is_uri(text: str) -> bool:
    """Whether it is an absolute URI of RFC 3986.

    >>> is_uri("https://novadex.example/login"), is_uri("ipfs:Qme7ss"), is_uri("novadex.example")
    (True, True, False)
    """
    found = _URI.fullmatch(text)
    return found is not None and _is_ipv6_or_none(found["ipv6"])


def origin_of(uri: str) -> str | None:
    """Scheme and authority of a URI that has both, as they stand there.

    >>> origin_of("https://novadex.example:8443/login?next=/trade")
    'https://novadex.example:8443'
    """
    found = _URI.fullmatch(uri)
    if found is None or not found["authority"]:
        return None
    return f"{found['scheme']}://{found['authority']}"


def is_domain(text: str) -> bool:
    """Whether it is a host and perhaps a port. A user before the host, which RFC 3986 knows, is refused:
    ``novadex.example@evil.example`` is evil.example.

    >>> is_domain("novadex.example:8443"), is_domain("user@novadex.example"), is_domain("no_vadex")
    (True, False, False)
    """
    found = _DOMAIN.fullmatch(text) if len(text) <= DOMAIN_LENGTH_MAX else None
    return found is not None and _is_ipv6_or_none(found["ipv6"]) and int(found["port"] or 1) <= PORT_MAX


def is_time(text: str) -> bool:
    """Whether it is a date and time of RFC 3339 with its offset; leap seconds are refused.

    >>> is_time("2024-08-08T23:54:15.342Z"), is_time("2024-08-08 23:54:15"), is_time("2024-02-30T00:00:00Z")
    (True, False, False)
    """
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_ipv6_or_none(text: str | None) -> bool:
    if text is None:
        return True
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
