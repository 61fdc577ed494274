"""``novadex keys``: the master keys, which personal data is encrypted under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.keys.service import KeyService

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("The master keys, which personal data is encrypted under.")
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    group.command("forget")(forget)
    app.add_typer(group, name="keys")


def create(
    add_next: Annotated[
        bool,
        typer.Option("--next", help="Add a key that nothing uses yet, to copy the file to other machines first."),
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make the file of the master keys where there is none. `novadex up` does it by itself."""
    from novadex.errors import ConfigurationError, ConflictError, NovaDexError
    from novadex.instance import data_dir_of
    from novadex.keys.master_key_file import add_key, make_key_file
    from novadex.keys.master_keys import master_key_path
    from novadex.settings import load_settings

    settings = load_settings()
    path = master_key_path(settings, data_dir_of(settings, data_dir))
    if path is None:
        raise ConfigurationError(
            "The master keys come from NOVADEX_MASTER_KEYS, not from a file.",
            hint="Make a key (openssl rand -base64 32), and put it in front as VERSION:BASE64.",
        )
    if add_next:
        version = add_key(path)
    elif make_key_file(path):
        version = 1
    else:
        raise ConflictError(f"There are master keys in {path} already.", hint="For a newer one: novadex keys rotate")
    try:
        _with_service(data_dir, lambda service: service.record_created(version))
    except NovaDexError as error:  # the key is needed before there is a database
        say(f"The audit log does not say so: {error.message}")
    if as_json:
        print_json({"path": str(path), "version": version})
    else:
        print(f"Made master key {version} in {path}.")
        say("Keep a copy elsewhere: who loses it loses all personal data, in the backups too.")


def list_keys(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Every master key that is here or was ever used, and how much is wrapped with it."""
    views = _with_service(data_dir, lambda service: service.list())
    if as_json:
        print_json(views)
        return
    for view in views:
        times = f"since {view.created_at:%Y-%m-%d %H:%M}" if view.created_at else ""
        if view.retired_at:
            times += f" until {view.retired_at:%Y-%m-%d %H:%M}"
        here = "" if view.here else "not here"
        print(f"{view.version:>4}  {view.status:<14}  {view.keys:>12,} keys  {here:<8}  {times}".rstrip())


def rotate(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Take a new master key into use and wrap every other key with it. Nothing stops meanwhile.

    A rotation that was interrupted is finished. The old master key stays in the file, for the backups.
    """
    with progress_bar() as show:
        report = _with_service(
            data_dir, lambda service: service.rotate(lambda now: show("Wrapping keys", now.done, now.keys))
        )
    if as_json:
        print_json(report)
        return
    rate = report.keys / report.seconds if report.seconds else 0
    print(
        f"{'Finished the rotation to' if report.continued else 'Rotated to'} master key {report.version}:"
        f" {report.keys:,} keys in {report.seconds:.1f} s ({rate:,.0f}/s)."
    )
    if report.retired:
        say(
            f"Retired: {', '.join(map(str, report.retired))}. Backups made before now need them: keep them as long as"
            " you keep those."
        )


def forget(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Number of a retired master key.", min=1)],
    yes: Annotated[bool, typer.Option("--yes", help="Yes, older backups may become unreadable.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take a retired master key out of the file. Personal data in backups made before its end is then lost."""
    from novadex.errors import UsageError

    if not yes:
        raise UsageError(
            f"Without master key {version}, nobody can read personal data in backups made before it was retired.",
            hint=f"When you keep none of them: novadex keys forget {version} --yes",
        )
    report = _with_service(data_dir, lambda service: service.forget(version))
    if as_json:
        print_json(report)
    elif report.removed_from:
        print(f"Master key {version} is gone from {report.removed_from}.")
    else:
        print(f"Master key {version} is not needed: take it out of NOVADEX_MASTER_KEYS.")


def _with_service(data_dir: Path | None, work: Callable[[KeyService], Awaitable[T]]) -> T:
    from novadex.keys.service import KeyService

    return on_instance(data_dir, lambda db, actor: work(KeyService(db, actor=actor)))
