"""``novadex cache``: what the cache and session servers hold, taking it out, filling them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from novadex.cli.manners import FAILED, AsJson, DataDir, new_app, on_instance, print_json, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.cache_upkeep.service import CacheService, ServerStats

T = TypeVar("T")

SESSIONS_MAX, USERS_MAX = 100_000, 50_000
"""As the service has them, which a command that only prints its help need not load."""
RATES = (
    "Hit rates by namespace are known to the processes that read: novadex_cache_reads_total in their metrics"
    " (/api/metrics)."
)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("What the cache and session servers hold, taking it out, filling them again.")
    group.command("stats")(stats)
    group.command("flush")(flush)
    group.command("rebuild")(rebuild)
    app.add_typer(group, name="cache")


def stats(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Keys by namespace, memory, hits and misses of both servers. At most a million keys are counted."""
    found = _with_service(data_dir, lambda service: service.stats())
    if as_json:
        print_json({"servers": found, "hit_rates_by_namespace": RATES})
    else:
        for server in found:
            _print_stats(server)
        say(RATES)
    if any(server.error for server in found):
        raise typer.Exit(FAILED)


def flush(
    sessions: Annotated[
        bool, typer.Option("--sessions", help="The session server too: every session is then read from PostgreSQL.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, the session server too.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take out what this instance caches, and nothing of others. Nobody is signed out, nothing is lost."""
    from novadex.errors import UsageError

    if sessions and not yes:
        raise UsageError(
            "Without the session server's entries, PostgreSQL has to answer for every session at once.",
            hint="If that is wanted: novadex cache flush --sessions --yes",
        )

    removed = _with_service(data_dir, lambda service: service.flush(sessions=sessions))
    if as_json:
        print_json({"removed": removed})
        return
    for name, keys in removed.items():
        print(f"{name}: {keys} keys removed")


def rebuild(
    sessions_max: Annotated[
        int, typer.Option("--sessions-max", metavar="N", min=0, help="Sessions to read, the last used first.")
    ] = SESSIONS_MAX,
    users_max: Annotated[
        int, typer.Option("--users-max", metavar="N", min=0, help="Users to read, those of the last used sessions.")
    ] = USERS_MAX,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Fill the session server and the cache of users from PostgreSQL, those used last first.

    Processes use what is filled in while they are connected: start them before, not after.
    """
    with progress_bar() as show:
        report = _with_service(
            data_dir,
            lambda service: service.rebuild(sessions_max=sessions_max, users_max=users_max, progress=show),
        )
    if as_json:
        print_json(report)
        return
    for name, part in (("sessions", report.sessions), ("users", report.users)):
        print(f"{name}: {part.read} read and {part.kept} kept in {part.seconds} s, {part.per_s:,}/s")


def _print_stats(server: ServerStats) -> None:
    print(f"{server.server}  {server.address}")
    if server.error is not None or server.keys is None:
        say(f"  {(server.error or {}).get('message', 'not counted')}")
        return
    for namespace, keys in server.keys.items():
        print(f"  {keys:>10,}  {namespace}")
    if not server.all_keys_counted:
        print("  There are more keys than were counted.")
    asked = server.hits + server.misses
    share = f"{server.hits / asked:.1%} of {asked:,} reads found their key" if asked else "no reads yet"
    limit = f" of {server.memory_bytes_max:,}" if server.memory_bytes_max else ""
    print(f"  {server.memory_bytes:,}{limit} bytes, {share}, {server.evicted_keys:,} evicted")
    print(f"  up for {server.uptime_s:,} s")
    if server.warning:
        say(f"  {server.warning}")


def _with_service(data_dir: Path | None, work: Callable[[CacheService], Awaitable[T]]) -> T:
    from novadex.cache_upkeep.service import CacheService

    return on_instance(data_dir, lambda db, actor: work(CacheService(db, actor=actor)))
