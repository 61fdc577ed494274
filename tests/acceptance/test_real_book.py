"""The real capture of one exchange goes in through the command line, and its book comes out, whatever happens to the
cache server meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import redis

from novadex.instance import read_instance
from tests.forked import command_line
from tests.servers import server_folder

CAPTURE = "binance-BTCUSDT-stream-2024-08-08.jsonl.gz"
BETWEEN_S = 0.5
KNOWN = {"updates": 3449, "checkpoints": 3449, "checkpoints_equal": 3449, "gaps": 0, "crossed": 0}


@pytest.fixture
def instance():
    folder = server_folder("novadex-book-", in_memory=True)
    data_dir = folder / "instance"
    novadex(data_dir, "up", "--detach")
    yield data_dir
    novadex(data_dir, "down")
    shutil.rmtree(folder)


def novadex(data_dir, *arguments):
    command = [*command_line(), *arguments, "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def book(data_dir):
    return json.loads(novadex(data_dir, "book", "--market", "BTC/USDT", "--depth", "0", "--json"))


def cache_of(data_dir):
    found = read_instance(data_dir)
    assert found is not None
    cache = found.services["cache"]
    assert cache.url is not None
    assert cache.process is not None
    return cache.url, cache.process.pid


def test_the_book_equals_the_exchanges_at_every_checkpoint(instance, shared_data):
    arguments = ("import", "book", str(shared_data / CAPTURE), "--market", "BTC/USDT", "--create-market", "--json")
    report = json.loads(novadex(instance, *arguments))
    assert {name: report[name] for name in KNOWN} == KNOWN
    assert (report["bids"], report["asks"], report["republished"]) == (1209, 2196, 0)
    assert report["read_back"] == 3450
    first = book(instance)
    assert (len(first["bids"]), len(first["asks"]), first["sequence"]) == (1209, 2196, report["sequence"])
    with redis.Redis.from_url(cache_of(instance)[0]) as server:
        server.flushall()
    assert book(instance) == first

    # Once more, with the cache server flushed and killed in the middle: its keeper starts it again.
    process = subprocess.Popen(
        [sys.executable, "-m", "novadex.cli", *arguments, "--data-dir", str(instance)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    blows = ["flush", "flush", "kill", "flush"]
    with redis.Redis.from_url(cache_of(instance)[0], socket_timeout=5) as server:
        while process.poll() is None and blows:
            try:
                if server.keys("*:book:{*}:lease"):  # the import is at work
                    blow = blows.pop(0)
                    if blow == "flush":
                        server.flushall()
                    else:
                        os.kill(cache_of(instance)[1], signal.SIGKILL)
            except redis.RedisError:
                pass
            time.sleep(BETWEEN_S)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert {name: report[name] for name in KNOWN} == KNOWN
    assert not blows
    assert report["republished"] >= 3
    assert book(instance) == first
