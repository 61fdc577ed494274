"""Who sends a request, and how often they may: before any route does its work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from novadex.api_keys.service import KEY_START, ApiKeyService
from novadex.errors import PermissionDeniedError, RateLimitedError, UsageError
from novadex.rate_limits.limiter import RateLimit, RateLimiter, Verdict
from novadex.roles.actor import Actor
from novadex.roles.tokens import not_authenticated
from novadex.sessions.records import SessionView
from novadex.sessions.service import SessionService

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from starlette.responses import Response

    from novadex.storage.connection import DatabaseConnection

READING = frozenset({"GET", "HEAD"})
IPV6_PREFIX = 64
"""What one household or machine usually has."""
IPV6_SITE_PREFIX = 48
"""What one place gets for the asking: 65,536 of them."""
SITE_SHARE = 10
"""A site may sign in as often as so many households: else it could use up all sign-ins of the venue."""
FORWARDED_MAX = 20
"""Proxies in a row that are believed, at most."""

bearer = HTTPBearer(
    auto_error=False,
    description="The token of a session (`nds_...`), or an API key (`ndk_...`).",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    actor: Actor
    address: str | None
    token: str = field(repr=False)
    view: SessionView | None
    """None where it is an API key."""

    def session(self) -> SessionView:
        """The session; what needs one is not for API keys."""
        if self.view is None:
            raise PermissionDeniedError("This needs a session, not an API key.", hint="Sign in, and use its token.")
        return self.view


class Access:
    """Authentication and rate limits over one connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        settings = db.settings
        self._sessions = SessionService(db)
        self._api_keys = ApiKeyService(db)
        self._limiter = db.companion(RateLimiter)
        self._limited = settings.rate_limits
        self._trusted = [ip_network(text) for text in (settings.trusted_proxies or "").split(",") if text]
        self._by_address = RateLimit("address", settings.rate_limit_address_per_minute)
        self._by_user = RateLimit("user", settings.rate_limit_user_per_minute)
        self._by_api_key = RateLimit("api-key", settings.rate_limit_api_key_per_minute)
        self._by_write = RateLimit("write", settings.rate_limit_write_per_minute)
        self._by_sign_in = RateLimit("sign-in", settings.rate_limit_sign_in_per_minute)
        self._by_site = RateLimit("sign-in-site", settings.rate_limit_sign_in_per_minute * SITE_SHARE)

    async def arrived(self, request: Request) -> None:
        """Somebody sent something."""
        await self._count(request, (self._by_address, network_of(self.address_of(request))))

    async def visitor(self, request: Request) -> str | None:
        """The network address of somebody who need not say who they are."""
        address = self.address_of(request)
        network = network_of(address)
        route = _route_of(request)
        limits = [(self._by_sign_in, f"{network} {route}")]
        site = network_of(address, IPV6_SITE_PREFIX)
        if site != network:
            limits.append((self._by_site, f"{site} {route}"))
        await self._count(request, *limits)
        return address

    async def caller(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> Caller:
        """Whoever the token or key of a request stands for. Raises ``NotAuthenticatedError``."""
        address = self.address_of(request)
        if credentials is None:
            raise not_authenticated()
        token = credentials.credentials
        if token.startswith(KEY_START):
            caller = Caller(await self._api_keys.validate(token, address), address, token, None)
            # By itself: what one key is refused is not taken from its user and their other keys.
            await self._count(request, (self._by_api_key, caller.actor.name))
        else:
            view = await self._sessions.validate(token)
            caller = Caller(view.actor, address, token, view)
        await self._count_user(request, str(caller.actor.user_id))
        return caller

    async def refresher(self, request: Request, token: str) -> None:
        """Whoever shows a token that may be good for a refresh alone, from wherever."""
        await self._count_user(request, str(await self._sessions.owner_of(token)))

    async def _count_user(self, request: Request, user: str) -> None:
        limits = [(self._by_user, user)]
        if request.method not in READING:
            limits.append((self._by_write, f"{user} {_route_of(request)}"))
        await self._count(request, *limits)

    async def _count(self, request: Request, *limits: tuple[RateLimit, str]) -> None:
        if not self._limited:
            return
        verdicts = await asyncio.gather(*(self._limiter.hit(limit, caller) for limit, caller in limits))
        known = [verdict for verdict in verdicts if verdict is not None]
        seen: list[Verdict] = request.scope.setdefault("state", {}).setdefault("verdicts", [])
        seen += known
        refused = [verdict for verdict in known if not verdict.allowed]
        if refused:
            wait_s = max(verdict.wait_s for verdict in refused)
            limit = max(refused, key=lambda verdict: verdict.wait_s).limit
            raise RateLimitedError(
                f"More than {limit.calls} requests in {limit.window_s} s ({limit.name}).",
                hint=f"Try again in {wait_s:.1f} s.",
                retry_after_s=f"{wait_s:.3f}",
            )

    def address_of(self, request: Request) -> str | None:
        """Where a request comes from; None where that is no network address. What proxies say of it
        (X-Forwarded-For) is believed from the right, as far as they are ours (NOVADEX_TRUSTED_PROXIES)."""
        address = _address(request.client.host) if request.client else None
        hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for hop in hops[: -FORWARDED_MAX - 1 : -1]:
            if address is None or not self._trusts(address) or not (given := _address(hop.strip())):
                break
            address = given
        return address

    def _trusts(self, address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in self._trusted)


class CountedRoute(APIRoute):
    """A route whose requests are counted by address as they arrive: FastAPI reads a body, and refuses what is no
    JSON, before it asks any dependency who sent it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def counted(request: Request) -> Response:
            await request.app.state.access.arrived(request)
            return await handle(request)

        return counted


def whose(caller: Caller, user_id: str | None) -> str:
    """The user that is named, else the caller."""
    own = caller.actor.user_id
    if user_id is not None:
        return user_id
    if own is None:
        raise UsageError("No user is named, and the caller is none.", hint="Name one: ?user_id=...")
    return str(own)


def network_of(address: str | None, ipv6_prefix: int = IPV6_PREFIX) -> str:
    """Who is counted together: one IPv4 address, one /64 of IPv6.

    >>> network_of("192.0.2.7"), network_of("2001:db8:1:2:3::4"), network_of(None)
    ('192.0.2.7', '2001:db8:1:2::/64', 'unknown')
    >>> network_of("2001:db8:1:2:3::4", IPV6_SITE_PREFIX)
    '2001:db8:1::/48'
    """
    if address is None:
        return "unknown"
    parsed = ip_address(address)
    return str(ip_network((parsed, ipv6_prefix), strict=False)) if isinstance(parsed, IPv6Address) else address


def rate_limit_headers(verdicts: Sequence[Verdict]) -> list[tuple[bytes, bytes]]:
    """``RateLimit-Policy`` and ``RateLimit`` of the IETF's draft-ietf-httpapi-ratelimit-headers-10.

    >>> rate_limit_headers([Verdict(RateLimit("user", 10), False, 0, 7.2)])
    [(b'ratelimit-policy', b'"user";q=10;w=60'), (b'ratelimit', b'"user";r=0;t=8')]
    """
    if not verdicts:
        return []
    policies = ", ".join(f'"{v.limit.name}";q={v.limit.calls};w={v.limit.window_s}' for v in verdicts)
    states = ", ".join(
        f'"{v.limit.name}";r={v.remaining}' + (f";t={int(v.wait_s) + 1}" if v.wait_s else "") for v in verdicts
    )
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]


def _address(text: str) -> str | None:
    """An address as proxies write it: some add a port, some put IPv6 in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _route_of(request: Request) -> str:
    route: Any = request.scope.get("route")
    return f"{request.method} {getattr(route, 'path', 'unknown')}"


async def _visitor(request: Request) -> str | None:
    return await request.app.state.access.visitor(request)


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    return await request.app.state.access.caller(request, credentials)


def _database(request: Request) -> DatabaseConnection:
    return request.app.state.db


Visiting = Annotated[str | None, Depends(_visitor)]
Calling = Annotated[Caller, Depends(_caller)]
Db = Annotated[Any, Depends(_database)]
"""The ``DatabaseConnection`` of the program."""
