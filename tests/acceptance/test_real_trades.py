"""The real trades of one exchange go in through the command line, and the known truth comes out."""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from tests.forked import command_line
from tests.servers import server_folder


@pytest.fixture
def instance():
    folder = server_folder("novadex-real-", in_memory=True)
    data_dir = folder / "instance"
    novadex(data_dir, "up", "--detach")
    yield data_dir
    novadex(data_dir, "down")
    shutil.rmtree(folder)


def novadex(data_dir, *arguments):
    done = subprocess.run(
        [*command_line(), *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_candles_of_real_trades_equal_the_independent_ones_digit_for_digit(instance, shared_data):
    command = ("import", "trades", str(shared_data / "BTCUSDT-trades-2024-08-08.csv"), "--market", "BTC/USDT")
    first = json.loads(novadex(instance, *command, "--create-market", "--json"))
    assert (first["read"], first["added"], first["duplicates"], first["rejected"]) == (9757, 9757, 0, 0)
    candles = json.loads(novadex(instance, "candles", "--market", "BTC/USDT", "--interval", "1m", "--json"))
    assert candles == expected_candles(shared_data)
    again = json.loads(novadex(instance, *command, "--json"))
    assert (again["read"], again["added"], again["duplicates"], again["rejected"]) == (9757, 0, 9757, 0)
    assert json.loads(novadex(instance, "analytics", "verify", "--json"))["difference_count"] == 0
    assert json.loads(novadex(instance, "candles", "--market", "BTC/USDT", "--interval", "1m", "--json")) == candles


def expected_candles(shared_data):
    known = json.loads((shared_data / "BTCUSDT-candles-1m.expected.json").read_text(encoding="utf-8"))
    same = ("open", "high", "low", "close", "base_volume", "quote_volume", "trades")
    return [
        {
            "start": iso(candle["start_ms"]),
            **{name: candle[name] for name in same},
            "taker_buy_base_volume": candle["taker_buy_base"],
            "complete": True,
        }
        for candle in known
    ]


def iso(milliseconds):
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
