"""Where a read finds its record, and what it never gives: what was changed before it began."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
from prometheus_client import generate_latest

from novadex import metrics
from novadex.cache import feed as feed_module
from novadex.cache.cache import TTL_JITTER, Loaded
from novadex.cache.feed import LEASE_S
from novadex.cache.servers import CONNECTIONS_MAX, CacheServer
from novadex.errors import NovaDexError
from tests.waiting import until

pytestmark = pytest.mark.on_redis_too

ROOT = Path(__file__).parents[3]


def stored(cache_url: str) -> dict[bytes, bytes]:
    """What lies in the cache server."""
    with redis.Redis.from_url(cache_url) as client:
        return {key: client.get(key) for key in client.scan_iter("novadex:*")}  # pyright: ignore[reportReturnType]


# The three places ------------------------------------------------------------------------------------------


async def test_the_process_then_the_cache_server_then_postgresql(venue, alice):
    one, other = await venue.process(), await venue.process()
    assert await one.read(alice) == "alice"
    assert (one.counts.loaded, one.counts.l2, one.counts.l1) == (1, 0, 0)
    assert await one.read(alice) == "alice"
    assert (one.counts.loaded, one.counts.l2, one.counts.l1) == (1, 0, 1)
    assert await other.read(alice) == "alice"
    assert (other.counts.loaded, other.counts.l2, other.counts.l1) == (0, 1, 0)
    await until(lambda: one.cache.peek(alice) == "alice")


async def test_without_a_cache_server_the_process_alone_caches(venue, alice):
    process = await venue.process(cache="")
    assert [await process.read(alice) for _ in range(3)] == ["alice"] * 3
    assert (process.counts.loaded, process.counts.l2, process.counts.l1) == (1, 0, 2)


async def test_that_there_is_no_record_is_remembered_until_there_is_one(venue, users):
    process, user = await venue.process(), str(users(1)[0])
    assert [await process.read(user) for _ in range(3)] == [None] * 3
    assert process.loads == 1
    process.forget()
    assert await process.read(user) is None
    assert (process.loads, process.counts.l2) == (1, 1)
    venue.rename(user, "bob")
    await process.feed.confirm()
    assert await process.read(user) == "bob"


async def test_nothing_is_remembered_of_missing_records_where_that_is_off(venue, users, cache_url):
    process, user = await venue.process(negative_ttl_s=0), str(users(1)[0])
    assert [await process.read(user) for _ in range(3)] == [None] * 3
    assert process.loads == 3
    assert stored(cache_url) == {}


async def test_a_hundred_readers_share_one_load(venue, alice):
    process = await venue.process()
    process.may_return.clear()
    readers = [asyncio.create_task(process.read(alice)) for _ in range(100)]
    await process.has_read.wait()
    process.may_return.set()
    assert await asyncio.gather(*readers) == ["alice"] * 100
    assert process.loads == 1


async def test_a_reader_who_gives_up_does_not_end_the_load_of_the_others(venue, alice):
    process = await venue.process()
    process.may_return.clear()
    first, second = (asyncio.create_task(process.read(alice)) for _ in range(2))
    await process.has_read.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    process.may_return.set()
    assert await second == "alice"
    assert process.loads == 1


async def test_an_error_of_a_load_reaches_its_readers_and_is_not_kept(venue, alice, monkeypatch):
    process = await venue.process()
    load = process.cache._load

    async def fails(key: str) -> Loaded:
        raise NovaDexError("no")

    process.cache._load = fails
    results = await asyncio.gather(*(process.read(alice) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, NovaDexError) for result in results)
    process.cache._load = load
    assert await process.read(alice) == "alice"


async def test_the_process_keeps_no_more_than_it_may(venue, users):
    process = await venue.process(l1_max=10)
    for user in users(50):
        await process.read(str(user))
    assert len(process.cache._l1) == 10


async def test_lives_differ_by_a_tenth_and_the_servers_are_the_same(venue, users, cache_url):
    process = await venue.process(ttl_s=100.0, negative_ttl_s=100.0)
    for user in users(60):
        await process.read(str(user))
    with redis.Redis.from_url(cache_url) as client:
        lives_s = sorted(float(str(client.pttl(key))) / 1000 for key in stored(cache_url))
    assert len(lives_s) == 60
    assert lives_s[0] > 100 * (1 - TTL_JITTER) - 10
    assert lives_s[-1] <= 100
    assert lives_s[-1] - lives_s[0] > 3  # 60 draws from ten seconds
    assert process.cache._keep("x", "y", process.feed.floor) <= 100


async def test_an_entry_ends_with_its_life(venue, alice):
    process = await venue.process(ttl_s=0.05)
    assert await process.read(alice) == "alice"
    await until(lambda: process.cache.peek(alice) is None)
    await until(lambda: stored(venue.cache_url) == {})
    assert await process.read(alice) == "alice"
    assert process.loads == 2


async def test_reads_are_counted_by_namespace_and_what_answered(venue, alice):
    process = await venue.process()
    await process.read(alice)
    await process.read(alice)
    text = generate_latest(metrics.REGISTRY).decode()
    assert 'novadex_cache_reads_total{answer="l1",namespace="user"} 1.0' in text
    assert 'novadex_cache_reads_total{answer="loaded",namespace="user"} 1.0' in text
    assert 'novadex_cache_reads_total{answer="l2",namespace="user"} 0.0' in text
    assert "novadex_cache_feed_connected 1.0" in text


async def test_a_connection_that_closes_leaves_the_counts_of_another_where_they_are(venue, alice):
    first, second = await venue.process(), await venue.process()
    await second.read(alice)
    await first.db.close()
    assert (
        'novadex_cache_reads_total{answer="loaded",namespace="user"} 1.0'
        in generate_latest(metrics.REGISTRY).decode()
    )
    await second.db.close()
    assert 'namespace="user"' not in generate_latest(metrics.REGISTRY).decode()


# Changes ---------------------------------------------------------------------------------------------------


async def test_a_commit_whose_program_ends_at_once_is_heard_by_every_process(venue, alice, cache_url):
    one, other = await venue.process(), await venue.process()
    for process in (one, other):
        assert await process.read(alice) == "alice"
    before = stored(cache_url)
    venue.rename(alice, "alina")
    for process in (one, other):
        await until(process.feed.confirm)
        assert process.cache.peek(alice) is None
    assert stored(cache_url) == before  # nobody took it out, and nobody believes it
    assert await other.read(alice) == "alina"
    assert await one.read(alice) == "alina"


async def test_a_program_that_is_killed_right_after_its_commit_leaves_nothing_old(venue, alice):
    process = await venue.process()
    assert await process.read(alice) == "alice"
    script = (
        "import os, signal, psycopg\n"
        f"c = psycopg.connect({venue.databases.main_url('owner')!r})\n"
        f"c.execute(\"UPDATE users SET username = 'alina' WHERE id = '{alice}'\")\n"
        "c.commit()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await ended.wait() == -signal.SIGKILL
    await until(process.feed.confirm)
    assert await process.read(alice) == "alina"


async def test_a_load_that_began_before_a_commit_is_not_served_after_it(venue, alice, cache_url):
    slow, other = await venue.process(), await venue.process()
    slow.may_return.clear()
    late = asyncio.create_task(slow.read(alice))
    await slow.has_read.wait()
    venue.rename(alice, "alina")
    await until(slow.feed.confirm)
    slow.has_read.clear()
    after = asyncio.create_task(slow.read(alice))
    await until(slow.has_read.is_set)  # it does not wait for the load that began before
    slow.may_return.set()
    assert await late == "alice"  # its read began before the commit
    assert await after == "alina"
    assert await slow.read(alice) == "alina"
    await until(other.feed.confirm)
    assert await other.read(alice) == "alina"
    slow.forget()
    assert await slow.read(alice) == "alina"
    assert all(b"alice" not in entry for entry in stored(cache_url).values())


async def test_what_a_process_tells_late_of_its_own_change_hides_no_newer_change(venue, alice, cache_url):
    """It committed first, another process second, and it goes on after it has heard of both."""
    process = await venue.process()
    own = venue.rename(alice, "own")
    await until(process.feed.confirm)
    process.may_return.clear()
    late = asyncio.create_task(process.read(alice))
    await process.has_read.wait()
    venue.rename(alice, "newer")
    await until(process.feed.confirm)
    await process.cache.changed(alice, own)
    process.may_return.set()
    assert await late == "own"  # its read began before the second commit
    assert process.cache.peek(alice) is None
    assert stored(cache_url) == {}
    assert await process.read(alice) == "newer"
    [entry] = stored(cache_url).values()
    assert b"newer" in entry
    await process.cache.changed(alice, own)  # however late
    assert stored(cache_url) == {}
    await until(lambda: process.cache.peek(alice) == "newer")


async def test_a_change_of_its_own_is_not_served_older_before_it_is_heard(venue, alice, cache_url):
    process = await venue.process()
    await process.read(alice)
    [(key, old)] = stored(cache_url).items()
    process.feed._connection.remove_notify_handler(process.feed._hear)
    first, second = venue.rename(alice, "alina"), venue.rename(alice, "aline")
    await process.cache.changed(alice, second)
    await process.cache.changed(alice, first)
    with redis.Redis.from_url(cache_url) as client:
        client.set(key, old)
    assert await process.read(alice) == "aline"


async def test_a_late_fill_of_another_process_does_not_replace_the_newer_entry(venue, alice, cache_url):
    slow, other = await venue.process(), await venue.process()
    slow.may_return.clear()
    late = asyncio.create_task(slow.read(alice))
    await slow.has_read.wait()
    # The slow one does not hear of the change, as if its announcement were under way.
    slow.feed._connection.remove_notify_handler(slow.feed._hear)
    venue.rename(alice, "alina")
    await other.feed.confirm()
    assert await other.read(alice) == "alina"
    slow.may_return.set()
    assert await late == "alice"
    assert [b"alina" in entry for entry in stored(cache_url).values()] == [True]


async def test_an_old_entry_that_is_put_back_is_not_believed(venue, alice, cache_url):
    one, other = await venue.process(), await venue.process()
    await one.read(alice)
    [(key, old)] = stored(cache_url).items()
    venue.rename(alice, "alina")
    await until(one.feed.confirm)
    assert await one.read(alice) == "alina"
    with redis.Redis.from_url(cache_url) as client:
        client.set(key, old)
    await until(other.feed.confirm)
    assert await other.read(alice) == "alina"
    one.forget()
    assert await one.read(alice) == "alina"


async def test_an_old_entry_that_is_put_back_when_its_change_is_forgotten_is_not_believed(
    venue, alice, users, cache_url, monkeypatch
):
    monkeypatch.setattr(feed_module, "CHANGES_S_MAX", 0.0)
    process = await venue.process()
    await process.read(alice)
    [(key, old)] = stored(cache_url).items()
    venue.rename(alice, "alina")
    venue.rename(str(users(1)[0]), "bob")
    await until(process.feed.confirm)
    assert ("user", alice) not in process.feed._changes
    with redis.Redis.from_url(cache_url) as client:
        client.set(key, old)
    assert await process.read(alice) == "alice"  # within the limit it would be
    process.forget()
    monkeypatch.setattr(feed_module, "READ_S_MAX", 0.0)
    assert await process.read(alice) == "alina"


@pytest.mark.parametrize(
    ("older", "newer"), [(255, 256), (0x61, 0x1_41), (0x41, 0x61), (0x7F, 0x80), (0x00FF_FFFF, 0x7FFF_0000_0000_0000)]
)
async def test_the_server_keeps_the_newer_of_two_entries(cache_url, older, newer):
    server = CacheServer("cache", cache_url)
    old, new = (xmax.to_bytes(8, "big") + b"entry" for xmax in (older, newer))
    assert await server.set_unless_newer("k", old, 60_000)
    assert await server.set_unless_newer("k", new, 60_000)
    assert not await server.set_unless_newer("k", old, 60_000)
    assert await server.get("k") == new
    assert await server.set_unless_newer("k", new + b" again", 60_000)
    assert await server.get("k") == new + b" again"
    await server.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", b"\xff" * 8, b"\x00" * 100, b"\x00" * 8 + b"\xc1", b"\x00" * 8 + b"\x92\xa1x\xc0", bytes(range(64))],
    ids=lambda garbage: garbage[:10].hex() or "empty",
)
async def test_what_somebody_else_put_there_is_ignored(venue, alice, cache_url, garbage):
    process = await venue.process()
    await process.read(alice)
    [key] = stored(cache_url)
    with redis.Redis.from_url(cache_url) as client:
        client.set(key, garbage)
    process.forget()
    assert await process.read(alice) == "alice"
    assert process.loads == 2


async def test_a_list_in_the_place_of_an_entry_is_replaced(venue, alice, cache_url):
    process = await venue.process()
    await process.read(alice)
    [key] = stored(cache_url)
    with redis.Redis.from_url(cache_url) as client:
        client.delete(key)
        client.rpush(key, "somebody else's")
    process.forget()
    assert await process.read(alice) == "alice"
    assert process.caches.servers["cache"].usable
    process.forget()
    assert await process.read(alice) == "alice"
    assert (process.loads, process.counts.l2) == (2, 1)


async def test_a_process_does_not_trust_entries_from_before_it_was_connected(venue, alice):
    await (await venue.process()).read(alice)
    later = await venue.process()
    assert await later.read(alice) == "alice"
    assert (later.counts.l2, later.counts.loaded) == (0, 1)


async def test_where_more_changes_come_than_are_remembered_nothing_old_is_served(venue, users, monkeypatch):
    monkeypatch.setattr(feed_module, "CHANGES_MAX", 3)
    process = await venue.process()
    ids = [str(user) for user in users(10)]
    for number, user in enumerate(ids):
        venue.rename(user, f"first{number}")
    await process.feed.confirm()
    for user in ids:
        await process.read(user)
    for number, user in enumerate(ids):
        venue.rename(user, f"second{number}")
    await until(process.feed.confirm)
    assert [await process.read(user) for user in ids] == [f"second{number}" for number in range(10)]
    process.forget()
    assert [await process.read(user) for user in ids] == [f"second{number}" for number in range(10)]


async def test_a_floor_is_asked_for_once_for_all_changes_that_are_forgotten(venue, monkeypatch):
    monkeypatch.setattr(feed_module, "CHANGES_MAX", 9)
    feed = (await venue.process()).feed

    async def has_floor() -> bool:
        return await feed.confirm() and feed.floor is not None

    floors = 0
    for number in range(100):
        feed.note("user", str(number), 1_000 + number)
        if feed.floor is None:
            floors += 1
            await until(has_floor)
    assert floors == 10


async def test_a_floor_that_was_asked_for_before_changes_were_forgotten_is_not_used(venue, monkeypatch):
    monkeypatch.setattr(feed_module, "CHANGES_MAX", 3)
    feed = (await venue.process()).feed
    ask: Any = feed_module.Session.one
    asked = []

    async def one(session, query, *parameters):
        row = await ask(session, query, *parameters)
        if query is feed_module.QUERIES.floor:
            asked.append(row.mark)
            for number in range(4 if len(asked) == 1 else 0):
                feed.note_own("user", str(number), 1_000 + number)
        return row

    monkeypatch.setattr(feed_module.Session, "one", one)
    feed.floor = None
    await until(feed.confirm)
    assert feed.floor is None
    await until(feed.confirm)
    assert (len(asked), feed.floor) == (2, feed_module.Snapshot.parse(asked[1]))


@pytest.mark.parametrize("payload", ["", "x", "user x y", "user 1", "\u00e4 \u00e4 \u00e4"])
async def test_an_announcement_that_does_not_read_as_one_harms_nobody(venue, alice, payload):
    process = await venue.process()
    assert await process.read(alice) == "alice"
    with psycopg.connect(venue.databases.main_url(None), autocommit=True) as connection:
        connection.execute("SELECT pg_notify(name, %s) FROM change_channel", (payload,))
    venue.rename(alice, "alina")
    await process.feed.confirm()
    assert await process.read(alice) == "alina"
    await until(process.feed.confirm)  # it listens again
    await process.read(alice)
    await until(lambda: process.cache.peek(alice) == "alina")


@pytest.mark.parametrize("role", ["readonly", "user"])
async def test_what_another_database_role_announces_changes_nothing(venue, alice, role):
    """Not even that something is not cached any more: it does not know where."""
    process = await venue.process()
    await process.read(alice)
    with psycopg.connect(venue.databases.main_url(role), autocommit=True) as connection:
        for xid in (9_000_000_000_000_000_000, 5):
            connection.execute("SELECT pg_notify('novadex_changes', %s)", (f"user {xid} {alice}",))
    await until(process.feed.confirm)
    await until(lambda: process.cache.peek(alice) == "alice")


# Where something is away -----------------------------------------------------------------------------------


async def test_a_caller_who_finds_every_connection_taken_is_answered_within_a_bound(cache_url):
    server = CacheServer("cache", cache_url)
    server.client()
    async with AsyncExitStack() as others:
        for _ in range(CONNECTIONS_MAX):
            await others.enter_async_context(server._places)
        async with asyncio.timeout(5):
            assert not await server.set_unless_newer("novadex:test:waiting", bytes(8), 1_000)
        assert server.usable, "it did not fail: nobody asked it"
    assert await server.set_unless_newer("novadex:test:waiting", bytes(8), 1_000)
    await server.close()


async def test_a_cache_server_that_stalls_costs_one_short_wait(venue, alice, proxy):
    link = await proxy(venue.cache_url)
    process = await venue.process(cache=link.url)
    await process.read(alice)
    link.stall()
    process.forget()
    async with asyncio.timeout(5):
        assert await process.read(alice) == "alice"
    server = process.caches.servers["cache"]
    assert not server.usable  # the next ones do not ask
    failures = metrics.cache_server_failures.labels("cache")._value.get()
    process.forget()
    assert await process.read(alice) == "alice"
    assert metrics.cache_server_failures.labels("cache")._value.get() == failures
    link.resume()
    await until(lambda: server.usable)

    async def is_used_again() -> bool:
        process.forget()
        before = process.counts.l2
        await process.read(alice)
        return process.counts.l2 > before

    await until(is_used_again)


async def test_a_cache_server_that_is_killed_and_comes_back_is_used_again(venue, alice, make_valkey):
    server = make_valkey()
    process = await venue.process(cache=server.url)
    await process.read(alice)
    server.kill()
    process.forget()
    assert await process.read(alice) == "alice"
    venue.rename(alice, "alina")
    await process.feed.confirm()
    assert await process.read(alice) == "alina"
    server.start()

    async def is_used_again() -> bool:
        process.forget()
        before = process.counts.l2
        assert await process.read(alice) == "alina"
        return process.counts.l2 > before

    await until(is_used_again)


async def test_a_full_server_is_still_read_from(venue, alice, make_valkey):
    server = make_valkey()
    process = await venue.process(cache=server.url)
    await process.read(alice)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    assert not await process.caches.servers["cache"].set_unless_newer("k", b"12345678x", 1000)
    process.forget()
    assert await process.read(alice) == "alice"
    assert process.counts.l2 == 1


async def test_two_hundred_commands_at_once_wait_for_their_turn(cache_url):
    server = CacheServer("cache", cache_url)
    # The first one connects; a busy machine may need longer for sixteen at once than a command may take.
    for _ in range(3):
        await asyncio.gather(*(server.run_script("return 1", "k") for _ in range(4)))
    await until(lambda: server.usable)
    for size in (8, 12, 16):
        await asyncio.gather(*(server.run_script("return 1", "k") for _ in range(size)))
        await until(lambda: server.usable)
    assert await asyncio.gather(*(server.run_script("return 1", "k") for _ in range(200))) == [1] * 200
    await server.close()


async def test_without_the_feed_reads_come_from_postgresql_and_are_right(venue, alice, proxy):
    link = await proxy(venue.databases.main_url())
    process = await venue.process(listen=link.url)
    assert await process.read(alice) == "alice"
    await link.refuse()
    link.cut()
    venue.rename(alice, "alina")
    await until(lambda: not process.feed.trusted_until)
    assert await process.read(alice) == "alina"
    assert process.counts.untrusted >= 1
    assert process.cache.peek(alice) is None
    venue.rename(alice, "aline")
    assert await process.read(alice) == "aline"
    await link.accept()
    await until(process.feed.confirm)
    await process.read(alice)
    await until(lambda: process.cache.peek(alice) == "aline")


async def test_a_load_that_began_while_the_feed_was_lost_is_shared_with_nobody_who_comes_later(
    venue, alice, proxy, monkeypatch
):
    link = await proxy(venue.databases.main_url())
    process = await venue.process(listen=link.url)
    await until(process.feed.confirm)
    asked, answered = asyncio.Event(), asyncio.Event()
    get = process.cache._server.get

    async def late_answer(key):
        asked.set()
        await answered.wait()
        return await get(key)

    process.cache._server.get = late_answer
    process.may_return.clear()
    early = asyncio.create_task(process.read(alice))
    await asked.wait()
    monkeypatch.setattr(feed_module, "RECONNECT_S", 1.0)
    link.cut()
    await until(lambda: not process.feed.trusted_until)
    answered.set()
    await process.has_read.wait()
    venue.rename(alice, "alina")
    await until(process.feed.confirm)
    late = asyncio.create_task(process.read(alice))
    await until(lambda: process.loads == 2)
    process.may_return.set()
    assert (await early, await late) == ("alice", "alina")


async def test_who_waited_for_the_cache_server_while_somebody_else_loaded_does_not_load_again(venue, alice):
    process = await venue.process()
    await until(process.feed.confirm)
    asked, answered = asyncio.Event(), asyncio.Event()

    async def late_answer(_key):
        asked.set()
        await answered.wait()

    get, process.cache._server.get = process.cache._server.get, late_answer
    slow = asyncio.create_task(process.read(alice))
    await asked.wait()
    process.cache._server.get = get
    assert await process.read(alice) == "alice"
    answered.set()
    assert await slow == "alice"
    assert process.loads == 1


async def test_a_feed_that_stalls_ends_the_lease(venue, alice, proxy):
    link = await proxy(venue.databases.main_url())
    process = await venue.process(listen=link.url)
    assert await process.read(alice) == "alice"
    link.stall()
    venue.rename(alice, "alina")
    committed = time.monotonic()
    await until(lambda: time.monotonic() > committed + LEASE_S)
    assert process.cache.peek(alice) is None
    assert await process.read(alice) == "alina"
    assert process.counts.untrusted == 1
    # Those who come later do not wait for the feed any more.
    began = process.counts.untrusted
    await until(lambda: time.monotonic() - process.feed._unanswered_since > feed_module.CONFIRM_S_MAX)
    assert not await process.feed.confirm()
    assert process.feed._confirmed is None or not process.feed._confirmed.done()
    assert await process.read(alice) == "alina"
    assert process.counts.untrusted == began + 1
    link.resume()
    await until(process.feed.confirm)
    assert await process.read(alice) == "alina"


async def test_after_its_own_commit_a_process_serves_nothing_older_though_the_feed_does_not_answer(
    venue, alice, proxy, monkeypatch
):
    monkeypatch.setattr(feed_module, "LEASE_S", 60.0)  # so that only the commit can end it
    link = await proxy(venue.databases.main_url())
    process = await venue.process(listen=link.url)
    assert await process.read(alice) == "alice"
    link.stall()
    venue.rename(alice, "alina")
    await process.feed.catch_up()
    assert await process.read(alice) == "alina"
    link.resume()
    await until(process.feed.confirm)
    assert await process.read(alice) == "alina"


async def test_a_cancelled_wait_for_the_feed_is_cancelled(venue):
    """Also where the answer comes at the same moment."""
    process = await venue.process()
    process.feed._wake = asyncio.Event()  # the next ping does not come by itself
    waiting = asyncio.create_task(process.feed.confirm())
    await until(lambda: process.feed._confirmed is not None)
    process.feed._confirmed.set_result(True)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_behind_a_pgbouncer_without_a_way_to_listen_nothing_is_cached(venue, alice, cache_url):
    process = await venue.process(settings={"pgbouncer": True})
    assert not process.feed.possible
    assert await process.read(alice) == "alice"
    venue.rename(alice, "alina")
    assert await process.read(alice) == "alina"
    assert (process.counts.untrusted, process.counts.l1, process.counts.l2) == (2, 0, 0)
    assert stored(cache_url) == {}


async def test_behind_a_pgbouncer_with_a_way_to_listen_all_is_cached(venue, alice):
    process = await venue.process(settings={"pgbouncer": True}, listen=venue.databases.main_url())
    assert [await process.read(alice) for _ in range(2)] == ["alice"] * 2
    assert process.counts.l1 == 1


async def test_a_process_that_was_stopped_and_continued_serves_nothing_old(venue, alice, proxy):
    """Not even where it is asked before it can hear what was announced meanwhile."""
    link = await proxy(venue.databases.main_url())
    place = {
        "main": venue.databases.main_url(),
        "analytics": venue.databases.analytics_url(),
        "cache": venue.cache_url,
        "listen": link.url,
        "data_dir": str(venue.databases.data_dir),
    }
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.cache.reader_program",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "CACHE_PLACE": json.dumps(place)},
        cwd=ROOT,
    )
    assert program.stdin is not None
    assert program.stdout is not None

    questions, answers = program.stdin, program.stdout

    async def ask() -> dict[str, object]:
        questions.write(f"{alice}\n".encode())
        async with asyncio.timeout(30):
            return json.loads(await answers.readline())

    try:
        assert (await ask())["name"] == "alice"

        async def is_kept() -> object:
            return (await ask())["from_the_process"]

        await until(is_kept)
        program.send_signal(signal.SIGSTOP)
        link.stall()
        venue.rename(alice, "alina")
        committed = time.monotonic()
        await until(lambda: time.monotonic() > committed + LEASE_S)
        program.send_signal(signal.SIGCONT)
        assert (await ask())["name"] == "alina"
        link.resume()
        assert (await ask())["name"] == "alina"
    finally:
        program.kill()
        await program.wait()


async def test_a_restored_database_has_other_entries(venue, alice, cache_url):
    """Its transactions have the ids of others."""
    process = await venue.process()
    await process.read(alice)
    life = process.feed.life
    with psycopg.connect(venue.databases.main_url(None), autocommit=True) as connection:
        connection.execute("UPDATE recovery_epoch SET epoch = epoch + 1")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await until(lambda: not process.feed.trusted_until)
    await until(process.feed.confirm)
    assert process.feed.life != life
    await process.read(alice)
    assert len(stored(cache_url)) == 2


async def test_unknown_keys_of_strangers_are_bounded_by_the_process(venue):
    process = await venue.process(l1_max=5)
    assert await asyncio.gather(*(process.read(str(uuid4())) for _ in range(40))) == [None] * 40
    assert len(process.cache._l1) == 5
    assert process.cache._loading == {}
