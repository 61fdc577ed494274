"""``SignInService``: who holds a wallet proves it by a signature, and gets a session."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.errors import ConflictError, PermissionDeniedError, ValidationError
from novadex.roles.actor import Actor
from novadex.sessions.records import NewSession, SessionView
from novadex.sessions.service import SessionService
from novadex.sign_in.message import CHAINS, METHOD_OF, Chain, SignInMessage, text_of
from novadex.sign_in.nonces import Nonces, use_nonce
from novadex.sign_in.parsing import parse_message
from novadex.sign_in.policy import SignInPolicy, default_origin
from novadex.sign_in.signatures import check_signature
from novadex.storage.connection import DatabaseConnection
from novadex.users.addresses import normalise
from novadex.users.records import User
from novadex.users.service import UserService
from novadex.users.store import UserStore

if TYPE_CHECKING:
    from collections.abc import Callable

ACTOR = Actor.program("sign_in")
LINK = "link-"
"""What the Request ID of a message begins with that links a wallet to an account, so that whoever gets somebody to
sign in cannot use that signature to take the wallet, nor the other way round."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """A nonce for a message that the client makes itself, as Solana's wallets do."""

    nonce: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Challenge:
    """A message for the wallet to sign."""

    message: str = field(repr=False)
    nonce: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that began with a signature."""

    session: NewSession
    user: User
    user_is_new: bool


class SignInService:
    """Sign-in with a wallet of Ethereum's family (EIP-4361) or of Solana.

    ``message`` makes the text, the wallet signs it, ``sign_in`` gives a session for it. ``clock`` and
    ``random_bytes`` are parameters so that tests can fix them.
    """

    def __init__(
        self,
        db: DatabaseConnection | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._clock = clock
        self._random_bytes = random_bytes
        self._users = UserService(self._db, actor=ACTOR)
        self._store = self._db.companion(UserStore)
        self._sessions = SessionService(self._db, actor=ACTOR)

    @cached_property
    def policy(self) -> SignInPolicy:
        """Raises ``SignInOffError`` where no domain is set."""
        return SignInPolicy.of(self._db.settings)

    async def new_nonce(self) -> Nonce:
        """A nonce for one sign-in. Raises ``OverloadedError`` where too many wait to be used."""
        self.policy  # noqa: B018 - no nonce where nobody can sign in
        settings = self._db.settings
        return Nonce(
            *await self._db.companion(Nonces).new(
                self._random_bytes, settings.sign_in_nonce_lifetime_s, settings.sign_in_nonces_max
            )
        )

    async def message(
        self,
        chain: Chain,
        address: str,
        *,
        domain: str | None = None,
        uri: str | None = None,
        chain_id: str | None = None,
        statement: str | None = None,
        link_to: UUID | None = None,
    ) -> Challenge:
        """A message with a new nonce for this wallet to sign; what is not given is of the settings, the first
        of each. ``link_to``: it is for ``link_wallet`` to this user. Raises ``ValidationError`` and
        ``NotAuthenticatedError`` where it could not be signed in with."""
        if chain not in CHAINS:
            raise ValidationError(
                f"There is no chain {str(chain)[:40]!r}.", field="chain", hint=f"Name one of: {', '.join(CHAINS)}."
            )
        domain = domain if domain is not None else self.policy.domains[0]
        now = self._clock()
        draft = SignInMessage(
            chain=chain,
            domain=domain,
            address=normalise(chain, address),
            uri=uri if uri is not None else default_origin(domain),
            chain_id=chain_id if chain_id is not None else self.policy.chain_id_for(chain),
            nonce="0" * 32,
            issued_at=text_of(now),
            expiration_time=text_of(now + timedelta(seconds=self._db.settings.sign_in_nonce_lifetime_s)),
            statement=statement,
            request_id=f"{LINK}{link_to}" if link_to is not None else None,
        )
        self.policy.check(parse_message(draft.render()), now)
        nonce = await self.new_nonce()
        return Challenge(replace(draft, nonce=nonce.nonce).render(), nonce.nonce, nonce.expires_at)

    def verify(self, message: str, signature: str) -> SignInMessage:
        """The message, where it is of the form, was made for this venue and now, and the wallet signed it.

        The nonce is not looked at: ``sign_in`` does that, where it is used up. Raises ``ValidationError`` and
        ``NotAuthenticatedError``.
        """
        parsed = parse_message(message)
        self.policy.check(parsed, self._clock())
        check_signature(parsed.chain, parsed.address, message, signature)
        return parsed

    async def sign_in(
        self, message: str, signature: str, *, device: str | None = None, address: str | None = None
    ) -> SignedIn:
        """A session for the user of the wallet that signed. A wallet that nobody has becomes a new user, unless
        NOVADEX_SIGN_IN_CREATE_USERS is off.

        Raises ``ValidationError`` and ``NotAuthenticatedError`` for a message or signature that is not good, or
        was used; ``AccessError`` where the user is not active.
        """
        proof = await self._proof(message, signature, None)
        user, is_new = await self._user_of(proof)
        session = await self._sessions.create(
            user.id,
            device=device,
            address=address,
            method=METHOD_OF[proof.chain],
            wallet=(proof.chain, proof.address),
        )
        return SignedIn(session, user, is_new)

    async def reauthenticate(self, token: str, message: str, signature: str) -> NewSession:
        """A new token in the place of this one, after its user signed again with one of their wallets."""
        view = await self._sessions.validate(token)
        proof = await self._proof(message, signature, None)
        if await self._holder(proof) != str(view.user_id):
            raise PermissionDeniedError(
                "This wallet is not one of the session's user.", hint="Sign with one that is."
            )
        return await self._sessions.reauthenticated(
            token, method=METHOD_OF[proof.chain], wallet=(proof.chain, proof.address)
        )

    async def link_wallet(self, view: SessionView, message: str, signature: str, *, primary: bool = False) -> User:
        """Add the wallet that signed to the user of this session. ``message`` was made with ``link_to``, and the
        sign-in was a short while ago (``ReauthenticationNeededError``).

        Raises ``ConflictError`` where somebody else has the wallet.
        """
        view.actor.require("wallets.manage_own")
        self._sessions.require_recent(view)
        proof = await self._proof(message, signature, view.user_id)
        actor = replace(view.actor, permissions=view.actor.permissions | {"wallets.manage_any"})
        users = self._users.acting_as(actor)
        return await users.add_wallet(view.user_id, proof.address, chain=proof.chain, primary=primary)

    async def _proof(self, message: str, signature: str, link_to: UUID | None) -> SignInMessage:
        """The message, verified, made for this purpose, its nonce used up."""
        proof = self.verify(message, signature)
        wanted = f"{LINK}{link_to}" if link_to is not None else None
        links = proof.request_id is not None and proof.request_id.startswith(LINK)
        if (proof.request_id != wanted) if wanted is not None else links:
            raise PermissionDeniedError(
                "The message was made for something else.", hint="Ask for a message for this, and sign that one."
            )
        async with self._db.transaction() as session:
            await use_nonce(session, proof.nonce)
        return proof

    async def _user_of(self, proof: SignInMessage) -> tuple[User, bool]:
        found = await self._user_there(proof)
        if found is not None:
            return found, False
        if not self._db.settings.sign_in_create_users:
            raise PermissionDeniedError(
                "Nobody has this wallet, and new users are not made by signing in.",
                hint="Ask the operator of the venue for an account.",
            )
        try:
            return await self._users.create_user(wallet_address=proof.address, chain=proof.chain), True
        except ConflictError:  # two sign-ins of a new wallet at once
            found = await self._user_there(proof)
            if found is None:
                raise
            return found, False

    async def _user_there(self, proof: SignInMessage) -> User | None:
        """Who has the wallet; what is encrypted of them need not be readable for that."""
        holder = await self._holder(proof)
        return await self._store.find_readable(holder) if holder is not None else None

    async def _holder(self, proof: SignInMessage) -> str | None:
        return await self._store.wallets.get(f"{proof.chain}:{proof.address}")
