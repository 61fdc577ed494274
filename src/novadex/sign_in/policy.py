"""What this venue accepts of a message that is of the form: for whom, for which chain, and when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from novadex.errors import NotAuthenticatedError, SignInOffError
from novadex.sign_in.grammar import origin_of

if TYPE_CHECKING:
    from novadex.settings import Settings
    from novadex.sign_in.message import Chain, SignInMessage

"""sign_in_nonces allows no more."""
ISSUED_AT_WINDOW = timedelta(minutes=5)
"""How far the clock of whoever wrote the message may be from ours, and how old a message may be."""
LIFETIME_MAX = timedelta(minutes=15)
"""From the issue of a message to its expiry."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class SignInPolicy:
    """Read from the settings once. All comparisons are exact: nothing is folded or shortened."""

    domains: tuple[str, ...]
    origins: frozenset[str]
    chain_ids: tuple[str, ...]
    """Numbers are chains of Ethereum's family, ``solana:NAME`` networks of Solana."""

    @classmethod
    def of(cls, settings: Settings) -> SignInPolicy:
        """Raises ``SignInOffError`` where no domain is set: then nobody can sign in."""
        domains = tuple(settings.sign_in_domain.split(",")) if settings.sign_in_domain else ()
        if not domains:
            raise SignInOffError(
                "Signing in with a wallet is off: no domain is set.",
                hint="Whoever runs the venue sets NOVADEX_SIGN_IN_DOMAIN to its domain, such as novadex.example.",
            )
        origins = settings.sign_in_origins.split(",") if settings.sign_in_origins else map(default_origin, domains)
        return cls(domains, frozenset(origins), tuple(settings.sign_in_chain_ids.split(",")))

    def check(self, message: SignInMessage, now: datetime) -> None:
        """Raise ``NotAuthenticatedError`` unless the message was made for this venue and now."""
        origin = origin_of(message.uri)
        if message.domain not in self.domains:
            raise _refusal("it was made for another domain")
        if origin not in self.origins:
            raise _refusal("its URI is not of this site")
        if message.scheme is not None and f"{message.scheme}://{message.domain}" not in self.origins:
            raise _refusal("it was made for another origin")
        if named_chain(message.chain, message.chain_id) not in self.chain_ids:
            raise _refusal("its chain is not accepted here")
        self._check_times(message, now)

    def _check_times(self, message: SignInMessage, now: datetime) -> None:
        issued, begins, expires = message.issued, message.begins, message.expires
        if abs(now - issued) > ISSUED_AT_WINDOW:
            raise _refusal("it was issued more than 5 minutes ago, or in the future", "Check the clock, sign anew.")
        if expires is None:
            raise _refusal("it never expires")
        if expires <= now:
            raise _refusal("it expired")
        if expires - issued > LIFETIME_MAX:
            raise _refusal("it is good for more than 15 minutes")
        if begins is not None and begins > now:
            raise _refusal("it is not good yet")

    def chain_id_for(self, chain: Chain) -> str:
        """The first accepted chain of a family, as a message writes it. Raises ``NotAuthenticatedError``
        where there is none."""
        for chain_id in self.chain_ids:
            if (chain == "solana") == chain_id.startswith("solana:"):
                return chain_id
        raise _refusal("no network of its chain is accepted here")


def named_chain(chain: Chain, chain_id: str) -> str:
    """The chain as the settings name it: Solana's networks can be written with and without their prefix.

    >>> named_chain("evm", "1"), named_chain("solana", "mainnet"), named_chain("solana", "solana:devnet")
    ('1', 'solana:mainnet', 'solana:devnet')
    """
    if chain == "evm" or chain_id.startswith("solana:"):
        return chain_id
    return f"solana:{chain_id}"


def default_origin(domain: str) -> str:
    """``https`` before a domain, ``http`` before this machine.

    >>> default_origin("novadex.example"), default_origin("localhost:3000")
    ('https://novadex.example', 'http://localhost:3000')
    """
    host = domain if domain.endswith("]") else domain.rpartition(":")[0] or domain
    return f"{'http' if host in LOOPBACK_HOSTS else 'https'}://{domain}"


def _refusal(problem: str, hint: str = "Ask for a new message and sign that one.") -> NotAuthenticatedError:
    return NotAuthenticatedError(f"The sign-in message is refused: {problem}.", hint=hint)
