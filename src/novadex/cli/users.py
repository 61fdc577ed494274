"""``novadex users``: who trades, their wallets, and erasing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from uuid import UUID

    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection
    from novadex.users.records import User, Wallet
    from novadex.users.service import UserService

T = TypeVar("T")
WHO = "Id, wallet address, email address or username."

Who = Annotated[str, typer.Argument(metavar="USER", help=WHO)]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the wallet.")]
Chain = Annotated[
    str | None, typer.Option("--chain", metavar="CHAIN", help="evm or solana. Default: by the form of the address.")
]
Email = Annotated[str | None, typer.Option("--email", metavar="E", help="Email address; stored encrypted.")]
Username = Annotated[str | None, typer.Option("--username", metavar="U", help="2 to 64 letters, digits, _ . and -.")]
Preferences = Annotated[str | None, typer.Option("--preferences", metavar="JSON", help="A JSON object.")]
Personal = Annotated[
    list[str] | None,
    typer.Option("--personal", metavar="NAME=TEXT", help="Such as full_name=...; stored encrypted. May be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Who trades, and their wallets.")
    group.command("create")(create)
    group.command("show")(show)
    group.command("list")(list_users)
    group.command("update")(update)
    group.command("role")(change_role)
    group.command("deactivate")(deactivate)
    group.command("reactivate")(reactivate)
    group.command("erase")(erase)
    group.command("reapply-erasures")(reapply_erasures)
    wallets = new_app("The wallets of a user.")
    wallets.command("list")(list_wallets)
    wallets.command("add")(add_wallet)
    wallets.command("remove")(remove_wallet)
    wallets.command("set-primary")(set_primary_wallet)
    group.add_typer(wallets, name="wallets")
    app.add_typer(group, name="users")


def create(  # noqa: PLR0917 - typer takes arguments and options as they stand
    wallet: Annotated[
        str | None, typer.Option("--wallet", metavar="W", help="Address of the primary wallet.")
    ] = None,
    chain: Chain = None,
    email: Email = None,
    username: Username = None,
    role: Annotated[str, typer.Option("--role", metavar="R", help="See novadex roles list.")] = "user",
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="person or program.")] = "person",
    preferences: Preferences = None,
    personal: Personal = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="A UUIDv7 of your own, so that a retry adds nobody.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a user. With --wallet it is the user who signs in with that wallet."""
    fields = {
        "id": id,
        "kind": kind,
        "wallet_address": wallet,
        "chain": chain,
        "email": email,
        "username": username,
        "role": role,
        "preferences": _json_object(preferences),
        "personal": _named_texts(personal),
    }
    _print(_with_service(data_dir, lambda service: service.create_user(fields)), as_json)


def show(user: Who, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """One user, personal data included: that somebody looked is written to the audit log."""

    _print(_with_service(data_dir, lambda service: _find(service, user)), as_json)


def list_users(  # noqa: PLR0917 - typer takes arguments and options as they stand
    role: Annotated[str | None, typer.Option("--role", metavar="R", help="Only users of this role.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only active, deactivated or erased ones.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=1_000)] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="The next of the page before this one.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of users without personal data, the newest first."""
    page = _with_service(
        data_dir, lambda service: service.list_users(role=role, status=status, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    for user in page.items:
        print(_line(user))
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")
    elif not page.items:
        say("No users. Add one: novadex users create --wallet ADDRESS")


def update(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: Who,
    email: Email = None,
    username: Username = None,
    preferences: Preferences = None,
    personal: Personal = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="FIELD", help="Take away email, username or personal. May be repeated."),
    ] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", metavar="N", help="Only if nobody changed the user since.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Change what is given; the rest stays. --personal and --preferences replace what was there."""
    from novadex.errors import UsageError

    given: dict[str, Any] = {
        "email": email,
        "username": username,
        "preferences": _json_object(preferences),
        "personal": _named_texts(personal),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    for name in remove or ():
        if name not in ("email", "username", "personal") or name in changes:
            raise UsageError(
                f"--remove {name[:40]!r} is not possible.",
                hint="Name email, username or personal, and not a new one.",
            )
        changes[name] = None

    async def work(service: UserService) -> User:
        found = await _find(service, user)
        return await service.update_user(found.id, **changes, expected_version=expected_version)

    _print(_with_service(data_dir, work), as_json)


def change_role(
    user: Who,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="See novadex roles list.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a user another role. Their sessions must be refreshed then."""
    _print(_change(data_dir, user, lambda service, id: service.change_role(id, role)), as_json)


def deactivate(user: Who, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Deactivate a user: sessions and API keys end at once. Records and personal data stay."""
    _print(_change(data_dir, user, lambda service, id: service.deactivate_user(id)), as_json)


def reactivate(user: Who, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Make a deactivated user active again. Sessions and keys that ended do not come back."""
    _print(_change(data_dir, user, lambda service, id: service.reactivate_user(id)), as_json)


def erase(
    user: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, for good.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Erase the personal data of a user for good: name, email, wallets, devices. Trades and other records stay."""
    from novadex.errors import UsageError

    if not yes:
        raise UsageError("What is erased does not come back.", hint="If you mean it, add --yes.")

    async def work(service: UserService) -> UUID:
        id = await _id_of(service, user)
        await service.erase_user(id)
        return id

    id = _with_service(data_dir, work)
    if as_json:
        print_json({"id": id, "status": "erased"})
    else:
        print(f"The personal data of user {id} is erased.")


def reapply_erasures(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Erase again whom the list of erasures names: after a restore. The worker does it by itself within seconds."""
    from novadex.keys import erasures

    async def work(db: DatabaseConnection, actor: Actor) -> None:
        report = await erasures.reapply_erasures(db, actor)
        if as_json:
            print_json(report)
        else:
            print(f"{report.listed:,} users are listed; {len(report.erased_again):,} of them were erased again.")
            if report.added:
                print(f"{report.added:,} erasures of the database were added to the list.")
        erasures.refuse_damaged(db, report)

    on_instance(data_dir, work)


# Wallets


def list_wallets(user: Who, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """The wallets of a user, the primary one first."""

    async def work(service: UserService) -> tuple[Wallet, ...]:
        return (await _find(service, user)).wallets

    found = _with_service(data_dir, work)
    if as_json:
        print_json(found)
        return
    for wallet in found:
        print(f"{wallet.chain:<8} {wallet.address:<44} {'primary' if wallet.is_primary else ''}".rstrip())


def add_wallet(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: Who,
    address: Address,
    chain: Chain = None,
    primary: Annotated[bool, typer.Option("--primary", help="Make it the primary one.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a wallet, without a signature: make sure that it is theirs. Whoever holds it can sign in as the user."""
    _print(
        _change(data_dir, user, lambda service, id: service.add_wallet(id, address, chain=chain, primary=primary)),
        as_json,
    )


def remove_wallet(
    user: Who, address: Address, chain: Chain = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Take a wallet away. Without any, the user cannot sign in."""
    _print(_change(data_dir, user, lambda service, id: service.remove_wallet(id, address, chain=chain)), as_json)


def set_primary_wallet(
    user: Who, address: Address, chain: Chain = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Make one of the user's wallets the primary one."""
    _print(_change(data_dir, user, lambda service, id: service.set_primary_wallet(id, address, chain=chain)), as_json)


# What they share


def _with_service(data_dir: Path | None, work: Callable[[UserService], Awaitable[T]]) -> T:
    from novadex.users.service import UserService

    return on_instance(data_dir, lambda db, actor: work(UserService(db, actor=actor)))


def _change(data_dir: Path | None, user: str, change: Callable[[UserService, UUID], Awaitable[User]]) -> User:
    async def work(service: UserService) -> User:
        return await change(service, await _id_of(service, user))

    return _with_service(data_dir, work)


async def _id_of(service: UserService, user: str) -> UUID:
    """By id nobody is looked up: it must work for a user whose personal data is damaged."""
    from novadex.errors import ValidationError
    from novadex.ids import parse_id

    try:
        return parse_id(user, "user")
    except ValidationError:
        return (await _find(service, user)).id


async def user_id_of(db: DatabaseConnection, actor: Actor, who: str) -> UUID:
    """The id of the user whom a command names; an id as it stands."""
    from novadex.users.service import UserService

    return await _id_of(UserService(db, actor=actor), who)


async def _find(service: UserService, user: str) -> User:
    """By whatever the text can be."""
    from novadex.errors import NotFoundError, ValidationError

    if "@" in user:
        return await service.get_user_by_email(user)
    if user[:2].lower() == "0x" and len(user) == len("0x") + 40:
        return await service.get_user_by_wallet(user)
    for find in (service.get_user, service.get_user_by_wallet, service.get_user_by_username):
        try:
            return await find(user)
        except (ValidationError, NotFoundError):
            continue  # it may be of the next kind
    raise NotFoundError(
        "There is no user of this id, wallet, email address or username.", hint="Is it written fully?"
    )


def _json_object(text: str | None) -> Any:
    import msgspec

    from novadex.errors import ValidationError

    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ValidationError(
            "--preferences is no JSON.", field="preferences", hint='Write it like {"theme": "dark"}.'
        ) from None


def _named_texts(given: list[str] | None) -> dict[str, str] | None:
    from novadex.errors import ValidationError

    if not given:
        return None
    pairs = [text.partition("=") for text in given]
    if not all(separator for _, separator, _ in pairs):
        raise ValidationError(
            "--personal has no =.", field="personal", hint='Write it like full_name="Ada Lovelace".'
        )
    return {name: text for name, _, text in pairs}


def _print(user: User, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    print(_line(user))
    for wallet in user.wallets[1:]:
        print(f"  also {wallet.chain} {wallet.address}")
    if user.email is not None:
        print(f"  email {user.email}")
    for name, text in (user.personal or {}).items():
        print(f"  {name} {text}")
    if user.preferences:
        import msgspec

        print(f"  preferences {msgspec.json.encode(user.preferences).decode()}")


def _line(user: User) -> str:
    return f"{user.id}  {user.username or '-':<20} {user.role:<12} {user.status:<11} {user.wallet_address or '-'}"
