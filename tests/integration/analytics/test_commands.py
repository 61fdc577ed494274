"""``novadex candles`` and ``novadex analytics``, as a user runs them."""

import asyncio
import json
import os
from datetime import UTC, datetime

import pytest

from tests.forked import command_line
from tests.integration.analytics.records import binance_trades, drain

COMMAND_S_MAX = 60


@pytest.fixture
def novadex(fresh_databases, tmp_path):
    """``await novadex("candles", ...)``: exit code, standard output, standard error."""

    async def run(*arguments, role="worker"):
        environment = {
            **os.environ,
            "DATABASE_URL": fresh_databases.main_url(role),
            "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url(role),
            "REDIS_URL": "redis://localhost",
            "REDIS_SESSION_URL": "redis://localhost",
            # An instance of this machine must not be found.
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path),
        }
        process = await asyncio.create_subprocess_exec(
            *command_line(),
            *arguments,
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(COMMAND_S_MAX):
            output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()

    return run


@pytest.fixture
def real_trades(venue, shared_data):
    return venue.record(*binance_trades(shared_data / "BTCUSDT-trades-2024-08-08.csv", venue.user, venue.market))


async def test_candles_are_printed_digit_for_digit(novadex, projection, real_trades, shared_data):
    await drain(projection)
    expected = json.loads((shared_data / "BTCUSDT-candles-1m.expected.json").read_text())
    code, output, errors = await novadex("candles", "--market", "BTC/USDT", "--interval", "1m", "--json", role="app")
    assert (code, errors) == (0, "")
    candles = json.loads(output)
    names = [
        "start",
        "open",
        "high",
        "low",
        "close",
        "base_volume",
        "quote_volume",
        "taker_buy_base_volume",
        "trades",
        "complete",
    ]
    assert [list(candle) for candle in candles] == [names] * 7
    for candle, wanted in zip(candles, expected, strict=True):
        moment = datetime.strptime(candle["start"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert moment.timestamp() * 1000 == wanted["start_ms"]
        assert candle["taker_buy_base_volume"] == wanted["taker_buy_base"]
        assert candle["complete"] is True
        for name in set(names) & set(wanted):
            assert candle[name] == wanted[name]
            assert type(candle[name]) is (int if name == "trades" else str)


async def test_candles_take_a_range_and_a_limit(novadex, projection, real_trades):
    await drain(projection)

    async def starts(*arguments):
        code, output, _ = await novadex("candles", "--market", "BTC/USDT", "--json", *arguments, role="app")
        assert code == 0
        return [candle["start"][11:16] for candle in json.loads(output)]

    everything = [f"23:{minute}" for minute in range(54, 60)] + ["00:00"]
    assert await starts() == everything
    assert await starts("--from", "2024-08-08T23:55:00Z", "--to", "2024-08-09T01:29:00+01:30") == everything[1:5]
    assert await starts("--limit", "2") == everything[-2:]
    assert await starts("--from", "2024-08-09") == ["00:00"]
    assert await starts("--from", "2025-01-01") == []


async def test_candles_for_people_are_a_table(novadex, projection, real_trades):
    await drain(projection)
    code, output, _ = await novadex("candles", "--market", "BTC/USDT", "--interval", "1d", role="app")
    heading, first, second = output.splitlines()
    assert code == 0
    assert heading.split()[:2] == ["start", "(UTC)"]
    assert first.split()[:2] == ["2024-08-08T00:00:00Z", "61837.63"]
    assert second.split()[4] == "61685.99"
    code, output, _ = await novadex("candles", "--market", "BTC/USDT", "--from", "2030-01-01", role="app")
    assert (code, output) == (0, "No candles: no trades in this range of time.\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--market", "BTC/USDD"], "NOT_FOUND", "'BTC/USDD'"),
        (["--market", "BTC/USDT", "--interval", "2m"], "INVALID_VALUE", "'2m'"),
        (["--market", "BTC/USDT", "--from", "yesterday"], "INVALID_VALUE", "'yesterday'"),
        (["--market", "BTC/USDT", "--limit", "0"], "INVALID_VALUE", "got 0"),
    ],
)
async def test_wrong_usage_says_what_is_wrong(arguments, code, words, novadex, venue):
    exit_code, output, errors = await novadex("candles", *arguments, "--json", role="app")
    assert exit_code == 2
    assert words in errors
    assert json.loads(output)["error"]["code"] == code
    exit_code, output, errors = await novadex("candles", *arguments, role="app")
    assert (exit_code, output) == (2, "")
    assert words in errors


async def test_verify_waits_for_what_was_committed_and_names_differences(novadex, owner_db, real_trades):
    # Nobody runs the projection: the command applies what waits.
    code, output, _ = await novadex("analytics", "verify", "--json")
    report = json.loads(output)
    assert code == 0
    assert (report["difference_count"], report["differences"]) == (0, [])
    assert report["compared"]["trade_facts"] == len(real_trades)
    await owner_db.analytics.execute("UPDATE candles SET high = high + 1 WHERE start = '2024-08-09Z'")
    await owner_db.analytics.execute("DELETE FROM trading_analytics WHERE day = '2024-08-09'")
    code, output, _ = await novadex("analytics", "verify", "--json")
    report = json.loads(output)
    assert code == 3
    assert report["difference_count"] == 2
    candle, day = report["differences"]
    assert candle["what"] == "candles"
    assert candle["key"] == {"market": "BTC/USDT", "start": "2024-08-09T00:00:00Z"}
    assert candle["stored"].keys() == candle["recomputed"].keys() == {"high"}
    assert (day["what"], day["stored"]) == ("trading_analytics", None)
    code, output, _ = await novadex("analytics", "verify")
    assert code == 3
    assert "candles BTC/USDT 2024-08-09T00:00:00Z: stored high=" in output
    assert "trading_analytics" in output
    assert "2 differences" in output


async def test_rebuild_repairs(novadex, owner_db, real_trades):
    await novadex("analytics", "verify")
    await owner_db.analytics.execute("DELETE FROM trade_facts")
    code, output, _ = await novadex("analytics", "rebuild", "--json")
    report = json.loads(output)
    assert code == 0
    assert (report["trades"], report["applied"], report["set_aside"]) == (len(real_trades), len(real_trades), 0)
    assert (await novadex("analytics", "verify"))[0] == 0
    code, output, _ = await novadex("analytics", "rebuild")
    assert code == 0
    assert "Rebuilt from 9,757 trades" in output


async def test_rebuild_tells_what_it_set_aside(novadex, owner_db, real_trades):
    await owner_db.analytics.execute(
        "ALTER TABLE trade_facts ADD CONSTRAINT late CHECK (executed_at < '2024-08-09Z')"
    )
    code, output, errors = await novadex("analytics", "rebuild", "--json")
    report = json.loads(output)
    assert code == 3
    assert report["set_aside"] > 0
    assert report["applied"] + report["set_aside"] == len(real_trades)
    assert "projection_rejects" in errors
