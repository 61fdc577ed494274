"""The routes of people: signing in, sessions, users and their wallets, API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from novadex.api import bodies
from novadex.api.access import Caller, Calling, CountedRoute, Db, Visiting, bearer, whose
from novadex.api.answers import documented, json_answer
from novadex.api_keys.records import ApiKeyPage, NewApiKey
from novadex.api_keys.service import ApiKeyService
from novadex.sessions.records import NewSession, SessionRecord
from novadex.sessions.service import SessionService
from novadex.sign_in.service import Challenge, Nonce, SignedIn, SignInService
from novadex.users.records import User, UserPage
from novadex.users.service import UserService

NO_CONTENT = HTTPStatus.NO_CONTENT
router = APIRouter(prefix="/api", default_response_class=Response, route_class=CountedRoute)


@dataclass(frozen=True, slots=True)
class SessionShown:
    """The session that a token stands for."""

    id: UUID
    user_id: UUID
    role: str
    method: str
    authenticated_at: datetime
    expires_at: datetime
    permissions: list[str]


def _device_of(request: Request) -> str | None:
    return request.headers.get("user-agent")


def _token_of(request: Request) -> str:
    """The token as it was sent, valid or not."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def nothing() -> Response:
    return Response(status_code=NO_CONTENT, headers={"Cache-Control": "no-store"})


# Signing in


@router.post("/sign-in/nonce", tags=["sign-in"], **documented(Nonce))
async def new_nonce(db: Db, _: Visiting) -> Response:
    """A nonce for a message that the client makes itself."""
    return json_answer(await SignInService(db).new_nonce())


@router.post("/sign-in/message", tags=["sign-in"], **documented(Challenge))
async def new_message(body: bodies.MessageWanted, db: Db, _: Visiting) -> Response:
    """A message for a wallet to sign: EIP-4361, or Sign In With Solana."""
    return json_answer(await SignInService(db).message(**body.model_dump()))


@router.post("/sign-in", tags=["sign-in"], **documented(SignedIn, HTTPStatus.CREATED))
async def sign_in(body: bodies.SignedMessage, request: Request, db: Db, address: Visiting) -> Response:
    """A session for the user of the wallet that signed. Its token is seen this once."""
    signed_in = await SignInService(db).sign_in(
        body.message, body.signature, device=_device_of(request), address=address
    )
    return json_answer(signed_in, HTTPStatus.CREATED)


# Sessions


@router.get("/session", tags=["sessions"], **documented(SessionShown))
async def show_session(caller: Calling) -> Response:
    """The session of the token."""
    view = caller.session()
    return json_answer(
        SessionShown(
            view.id,
            view.user_id,
            view.role,
            view.method,
            view.authenticated_at,
            view.expires_at,
            sorted(view.actor.permissions),
        )
    )


@router.post("/session/refresh", tags=["sessions"], dependencies=[Depends(bearer)], **documented(NewSession))
async def refresh_session(request: Request, db: Db, address: Visiting) -> Response:
    """A new token in the place of the old one, which ends. Also for a session that must be renewed."""
    token = _token_of(request)
    await request.app.state.access.refresher(request, token)
    return json_answer(await SessionService(db).refresh(token, device=_device_of(request), address=address))


@router.post("/session/reauthenticate", tags=["sessions"], **documented(NewSession))
async def reauthenticate(body: bodies.SignedMessage, db: Db, caller: Calling) -> Response:
    """A new token, after the user signed again: for sensitive actions."""
    caller.session()
    return json_answer(await SignInService(db).reauthenticate(caller.token, body.message, body.signature))


@router.delete("/session", tags=["sessions"], dependencies=[Depends(bearer)], status_code=NO_CONTENT)
async def sign_out(request: Request, db: Db, _: Visiting) -> Response:
    """End the session of the token. Also one that must be renewed, or was refreshed a moment ago."""
    await SessionService(db).revoke_token(_token_of(request))
    return nothing()


@router.get("/sessions", tags=["sessions"], **documented(list[SessionRecord]))
async def list_sessions(db: Db, caller: Calling, user_id: str | None = None) -> Response:
    """The sessions of oneself, or, for staff, of a user: the devices that are signed in."""
    return json_answer(await SessionService(db, actor=caller.actor).list(whose(caller, user_id)))


@router.delete("/sessions", tags=["sessions"])
async def revoke_sessions(db: Db, caller: Calling, user_id: str | None = None) -> Response:
    """End all sessions but this one; for staff, all of a user. Answers how many."""
    sessions = SessionService(db, actor=caller.actor)
    kept = caller.view.id if caller.view is not None else None
    return json_answer({"revoked": await sessions.revoke_all(whose(caller, user_id), but=kept)})


@router.delete("/sessions/{session_id}", tags=["sessions"], status_code=NO_CONTENT)
async def revoke_session(session_id: str, db: Db, caller: Calling) -> Response:
    """End one session."""
    await SessionService(db, actor=caller.actor).revoke(session_id)
    return nothing()


# Users


@router.get("/users/me", tags=["users"], **documented(User))
async def show_me(db: Db, caller: Calling) -> Response:
    """The caller."""
    return json_answer(await UserService(db, actor=caller.actor).get_user(whose(caller, None)))


@router.patch("/users/me", tags=["users"], **documented(User))
async def change_me(body: bodies.UserChange, db: Db, caller: Calling) -> Response:
    """Change what is given; null takes it away."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return json_answer(await UserService(db, actor=caller.actor).update_user(whose(caller, None), **given))


@router.delete("/users/me", tags=["users"], status_code=NO_CONTENT)
async def erase_me(db: Db, caller: Calling) -> Response:
    """Erase the caller's personal data, for good. Needs a sign-in a short while ago."""
    users = UserService(db, actor=recent_actor(db, caller))
    await users.erase_user(whose(caller, None))
    return nothing()


@router.post("/users/me/deactivate", tags=["users"], **documented(User))
async def deactivate_me(db: Db, caller: Calling) -> Response:
    """Deactivate the caller's account: all sessions and keys end. Needs a sign-in a short while ago."""
    users = UserService(db, actor=recent_actor(db, caller))
    return json_answer(await users.deactivate_user(whose(caller, None)))


@router.post("/users/me/wallets/message", tags=["users"], **documented(Challenge))
async def new_wallet_message(body: bodies.MessageWanted, db: Db, caller: Calling) -> Response:
    """A message for a further wallet to sign, so that it is added to the caller."""
    view = caller.session()
    return json_answer(await SignInService(db).message(**body.model_dump(), link_to=view.user_id))


@router.post("/users/me/wallets", tags=["users"], **documented(User, HTTPStatus.CREATED))
async def link_wallet(body: bodies.WalletToLink, db: Db, caller: Calling) -> Response:
    """Add the wallet that signed. Needs a sign-in a short while ago."""
    user = await SignInService(db).link_wallet(caller.session(), body.message, body.signature, primary=body.primary)
    return json_answer(user, HTTPStatus.CREATED)


@router.put("/users/me/wallets/primary", tags=["users"], **documented(User))
async def set_primary_wallet(body: bodies.WalletNamed, db: Db, caller: Calling) -> Response:
    """Make one of the caller's wallets the primary one. Needs a sign-in a short while ago."""
    users = UserService(db, actor=recent_actor(db, caller))
    return json_answer(await users.set_primary_wallet(whose(caller, None), body.address, chain=body.chain))


@router.delete("/users/me/wallets/{chain}/{address}", tags=["users"], **documented(User))
async def remove_wallet(chain: str, address: str, db: Db, caller: Calling) -> Response:
    """Take a wallet away, but not the last one. Needs a sign-in a short while ago."""
    users = UserService(db, actor=recent_actor(db, caller))
    return json_answer(await users.remove_wallet(whose(caller, None), address, chain=chain))


@router.get("/users", tags=["users"], **documented(UserPage))
async def list_users(
    db: Db,
    caller: Calling,
    *,
    role: str | None = None,
    status: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of users without personal data, the newest first: for staff."""
    users = UserService(db, actor=caller.actor)
    return json_answer(await users.list_users(role=role, status=status, limit=limit, cursor=cursor))


@router.get("/users/{user_id}", tags=["users"], **documented(User))
async def show_user(user_id: str, db: Db, caller: Calling) -> Response:
    """A user: oneself, or for staff anybody."""
    return json_answer(await UserService(db, actor=caller.actor).get_user(user_id))


@router.put("/users/{user_id}/role", tags=["users"], **documented(User))
async def change_role(user_id: str, body: bodies.RoleChange, db: Db, caller: Calling) -> Response:
    """Give a user another role: for administrators. Needs a sign-in a short while ago."""
    return json_answer(await UserService(db, actor=recent_actor(db, caller)).change_role(user_id, body.role))


@router.post("/users/{user_id}/deactivate", tags=["users"], **documented(User))
async def deactivate_user(user_id: str, db: Db, caller: Calling) -> Response:
    """Deactivate a user: for administrators. Needs a sign-in a short while ago."""
    return json_answer(await UserService(db, actor=recent_actor(db, caller)).deactivate_user(user_id))


@router.post("/users/{user_id}/reactivate", tags=["users"], **documented(User))
async def reactivate_user(user_id: str, db: Db, caller: Calling) -> Response:
    """Make a deactivated user active again: for administrators. Needs a sign-in a short while ago."""
    return json_answer(await UserService(db, actor=recent_actor(db, caller)).reactivate_user(user_id))


# API keys


@router.post("/api-keys", tags=["api-keys"], **documented(NewApiKey, HTTPStatus.CREATED))
async def create_api_key(body: bodies.ApiKeyWanted, db: Db, caller: Calling) -> Response:
    """Make a key. It is seen this once. Needs a sign-in a short while ago."""
    keys = ApiKeyService(db, actor=recent_actor(db, caller))
    return json_answer(await keys.create(whose(caller, None), **body.model_dump()), HTTPStatus.CREATED)


@router.get("/api-keys", tags=["api-keys"], **documented(ApiKeyPage))
async def list_api_keys(
    db: Db, caller: Calling, user_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> Response:
    """A page of the caller's keys, or, for staff, of a user's, without their secrets."""
    keys = ApiKeyService(db, actor=caller.actor)
    return json_answer(await keys.list(whose(caller, user_id), limit=limit, cursor=cursor))


@router.post("/api-keys/{key_id}/rotate", tags=["api-keys"], **documented(NewApiKey))
async def rotate_api_key(key_id: str, body: bodies.ApiKeyRotation, db: Db, caller: Calling) -> Response:
    """A new key in the place of another, which lives on for a while. Needs a sign-in a short while ago."""
    keys = ApiKeyService(db, actor=recent_actor(db, caller))
    return json_answer(await keys.rotate(key_id, overlap_s=body.overlap_s))


@router.delete("/api-keys/{key_id}", tags=["api-keys"], status_code=NO_CONTENT)
async def revoke_api_key(key_id: str, db: Db, caller: Calling) -> Response:
    """End a key."""
    await ApiKeyService(db, actor=caller.actor).revoke(key_id)
    return nothing()


def recent_actor(db: Any, caller: Caller) -> Any:
    """The actor of a session whose user proved lately who they are."""
    view = caller.session()
    SessionService(db).require_recent(view)
    return view.actor
