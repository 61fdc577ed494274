"""``novadex import trades``: what it prints, where, and its exit codes."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from novadex.analytics.projection import TradeProjection
from novadex.storage.connection import DatabaseConnection
from tests.integration.cli.command import Command
from tests.integration.importing import dumps
from tests.integration.importing.dumps import MARKET, count, dumped
from tests.waiting import until

TRADES = dumped(500)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "trades.csv"
    path.write_bytes(dumps.binance(TRADES))
    return path


def test_the_document_has_what_was_done_and_all_words_go_elsewhere(novadex: Command, dump: Path):
    command = ("import", "trades", str(dump), "--market", MARKET)
    done = novadex.run(*command, "--create-market", "--json")
    document = json.loads(done.stdout)
    assert document.pop("seconds") > 0
    assert document == {
        "file": "trades.csv", "market": MARKET, "format": "binance", "source": "binance",
        "read": 500, "added": 500, "duplicates": 0, "rejected": 0, "rejects_file": None, "analytics": "no worker",
    }  # fmt: skip
    assert "trades.csv: binance, without a header" in done.stderr
    assert "No worker runs" in done.stderr
    again = novadex.json(*command)
    assert (again["read"], again["added"], again["duplicates"]) == (500, 0, 500)


def test_a_person_reads_one_line(novadex: Command, dump: Path):
    command = ("import", "trades", str(dump), "--market", MARKET, "--no-wait")
    first = novadex.run(*command, "--create-market")
    assert first.stdout.startswith("BTC/USDT: 500 trades added, 0 were there already; 500 read in ")
    again = novadex.run(*command)
    assert again.stdout.startswith("BTC/USDT: nothing new; all 500 trades were there already")
    assert len(first.stdout.splitlines()) == len(again.stdout.splitlines()) == 1
    assert "worker" not in first.stderr


def test_skipped_lines_are_no_failure_and_the_report_says_where_they_are(novadex: Command, dump: Path):
    with dump.open("ab") as file:
        file.write(b"1,2,3,6,0,True,True\n")
    command = ("import", "trades", str(dump), "--market", MARKET, "--create-market", "--on-error", "skip")
    done = novadex.run(*command, "--json", "--no-wait")
    document = json.loads(done.stdout)
    assert (document["added"], document["rejected"]) == (500, 1)
    assert document["rejects_file"] == str(dump) + ".rejects.csv"
    assert document["rejects_file"] in done.stderr


def test_a_bad_line_fails_with_one_document(novadex: Command, dump: Path):
    with dump.open("ab") as file:
        file.write(b"1,2,3,6,0,True,True\n")
    done = novadex.run("import", "trades", str(dump), "--market", MARKET, "--create-market", "--json", code=1)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "IMPORT_FAILED"
    assert (error["details"]["line"], error["details"]["field"], error["details"]["value"]) == ("501", "time", "0")
    assert error["details"]["added"] == "500"
    assert "trades.csv, line 501, time '0'" in done.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"file": "none.csv"}, "There is no file none.csv"),
        ({"file": "."}, "is a folder"),
        ({"market": "BTCUSDT"}, "BASE/QUOTE"),
        ({"market": "ETH/USDT"}, "--create-market"),
        ({"--format": "excel"}, "format must be one of auto, binance, ccxt, novadex"),
        ({"--on-error": "ignore"}, "on_error must be one of stop, skip"),
        ({"--source": "Binance US"}, "small letters"),
        ({"--colour": "red"}, "--colour"),
    ],
)
def test_wrong_usage_exits_with_2(novadex: Command, dump: Path, changes: dict[str, str], reason: str):
    options = {"file": str(dump), "market": MARKET} | changes
    file, market = options.pop("file"), options.pop("market")
    arguments = [argument for pair in options.items() for argument in pair]
    done = novadex.run("import", "trades", file, "--market", market, *arguments, code=2)
    assert reason in done.stderr
    assert done.stdout == ""


def test_without_a_market_the_usage_is_wrong(novadex: Command, dump: Path):
    assert "--market" in novadex.run("import", "trades", str(dump), code=2).stderr


def test_standard_input_can_be_imported(novadex: Command):
    text = dumps.binance(TRADES).decode() + "1,2,3\n"
    command = ("import", "trades", "-", "--market", MARKET, "--create-market", "--on-error", "skip")
    done = novadex.run(*command, "--json", "--no-wait", stdin=text)
    document = json.loads(done.stdout)
    assert (document["file"], document["added"], document["rejected"]) == ("standard input", 500, 1)
    assert document["rejects_file"] == str(novadex.folder / "stdin.rejects.csv")


async def test_it_waits_until_the_worker_has_made_the_trades_visible(
    novadex: Command, worker_db: DatabaseConnection, dump: Path
):
    projection = TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings)
    stop = asyncio.Event()
    worker = asyncio.ensure_future(projection.run(stop))
    try:
        await until(lambda: projection.lag_s is not None)
        command = ("import", "trades", str(dump), "--market", MARKET, "--create-market")
        document = await asyncio.to_thread(novadex.json, *command)
        assert document["analytics"] == "visible"
        assert await worker_db.analytics.value("SELECT sum(trades)::int FROM candles") == 500
    finally:
        stop.set()
        await worker


def test_without_analytics_the_trades_are_in_all_the_same(
    novadex: Command, dump: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NOVADEX_POOL_WAIT_S_MAX", "1")
    away = Command(replace(novadex.databases, analytics="there_is_none"), novadex.folder)
    done = away.run("import", "trades", str(dump), "--market", MARKET, "--create-market", "--json")
    document = json.loads(done.stdout)
    assert (document["added"], document["analytics"]) == (500, "unavailable")
    assert "The trades are in" in done.stderr


async def test_an_interrupt_says_what_is_in_and_the_next_import_continues(
    novadex: Command, main_url: Callable[..., str], tmp_path: Path
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = novadex.start(
        "import", "trades", str(pipe), "--market", MARKET, "--create-market", start_new_session=True
    )
    content = dumps.binance(dumped(30_000))
    writing = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        with open(writing, "wb", buffering=0, closefd=False) as file:  # noqa: ASYNC230 - it is in a thread
            await asyncio.to_thread(file.write, content)
        await until(lambda: count(main_url("readonly")) > 0)
        process.send_signal(signal.SIGINT)  # while it waits for more
        _, errors = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        os.close(writing)
        process.kill()
    assert process.returncode == 130
    assert "trades were added and stay" in errors
    assert "Traceback" not in errors


def test_a_terminal_gets_a_bar_with_rate_and_time_left(novadex: Command, tmp_path: Path):
    path = tmp_path / "trades.csv.gz"
    path.write_bytes(gzip.compress(dumps.binance(dumped(20_000))))
    master, slave = pty.openpty()
    process = novadex.start(
        "import", "trades", str(path), "--market", MARKET, "--create-market", "--no-wait", "--json", stderr=slave
    )
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 60)[0]:
        try:
            shown += os.read(master, 65_536)
        except OSError:  # the other side is closed
            break
    output, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert json.loads(output)["added"] == 20_000
    text = shown.decode()
    assert "Importing" in text
    assert "/s" in text
    assert ":" in text.rpartition("Importing")[2]


def test_the_help_names_the_formats():
    done = subprocess.run(
        [sys.executable, "-m", "novadex.cli", "import", "trades", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("Binance", "ccxt", "--on-error", "--create-market", "--json", "--data-dir"):
        assert word in done.stdout
