"""``novadex simulate``: plausible order flow, for demonstrations, load and tests."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from novadex.cli.manners import ENDED_BY_SIGNAL, AsJson, DataDir, moment_of, on_instance, print_json, progress_bar

if TYPE_CHECKING:
    from novadex.simulator.records import SimulationReport
    from novadex.storage.connection import DatabaseConnection

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)?")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def register(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(  # noqa: PLR0917 - options
    markets: Annotated[int, typer.Option(help="How many markets.")] = 4,
    first_market: Annotated[
        int, typer.Option(help="Number of the first one, 1: BTC/USDT-SIM. Each has one simulation at a time.")
    ] = 1,
    users: Annotated[int, typer.Option(help="How many users; each fifth is a market maker.")] = 50,
    rate: Annotated[float, typer.Option(help="Commands a second, of all markets together.")] = 20.0,
    seed: Annotated[int, typer.Option(help="The same seed and start: the same commands with the same ids.")] = 1,
    duration: Annotated[str, typer.Option(help="Such as 60s, 5m, 1h; 0: until Ctrl-C.")] = "60s",
    start: Annotated[str | None, typer.Option(help="When it begins, ISO 8601. Default: now.")] = None,
    simulated_time: Annotated[
        bool, typer.Option("--simulated-time", help="As fast as the machine can; ends now where no start is given.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Simulate trading through the services: quotes, orders of every kind, fills, busts. The same seed and start are
    the same trades, and a second time adds nothing. Ctrl-C ends it with what was done so far, and exit code 130."""
    from novadex.simulator.records import Plan, SimulationProgress, check_duration
    from novadex.simulator.service import Simulator
    from novadex.simulator.stopping import stop_on_signals

    duration_s = seconds_of(duration)
    check_duration(duration_s)
    moment = moment_of(start, "--start")
    if moment is None:
        moment = datetime.now(UTC) - timedelta(seconds=duration_s if simulated_time else 0)
    plan = Plan(moment, duration_s, markets, users, rate, seed, first_market)

    async def work(db: DatabaseConnection, _: object) -> tuple[SimulationReport, int | None]:
        stop = stop_on_signals()
        with progress_bar() as show:
            expected = int(rate * duration_s)

            def progress(now: SimulationProgress) -> None:
                done = int(rate * now.simulated_s) if expected else now.commands
                show(f"Simulating, {now.simulated_s:,.0f} s", done, expected)

            report = await Simulator(db, plan, simulated_time).run(stop, progress)
        return report, stop.signal

    report, signal = on_instance(data_dir, work)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if signal is not None:
        raise typer.Exit(ENDED_BY_SIGNAL + signal)


def _print(report: SimulationReport) -> None:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.commands.items())
    per_s = report.total / report.seconds if report.seconds else 0
    print(
        f"Simulated {report.simulated_s:,.0f} s from {report.start.isoformat()} with seed {report.seed} in"
        f" {report.seconds:,.1f} s, {per_s:,.0f} commands/s: {kinds or 'nothing'}."
    )
    if report.refused:
        print("Refused: " + ", ".join(f"{count:,} {code}" for code, count in report.refused.items()) + ".")


def seconds_of(text: str) -> float:
    """A duration such as ``90s`` or ``1h``.

    >>> seconds_of("5m"), seconds_of("90"), seconds_of("1.5h")
    (300.0, 90.0, 5400.0)
    """
    from novadex.errors import ValidationError

    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValidationError(f"--duration is not one: {text[:40]!r}.", field="duration", hint="Write 60s, 5m or 1h.")
    return float(match[1]) * _UNITS_S[match[2] or "s"]
