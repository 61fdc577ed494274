"""What a simulation is made of, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from novadex.errors import ValidationError

MARKETS_MAX = 100
USERS_MAX = 10_000
COMMANDS_PER_S_MAX = 200
"""Of each market: every command has a millisecond of its own, and what follows from it comes just after."""
SEED_MAX = 2**31
DURATION_S_MAX = 366 * 86_400

CommandKind = Literal[
    "place", "amend", "cancel", "reject", "trigger", "expire", "fill", "bust", "deposit", "withdrawal"
]


class Command(NamedTuple):
    """One call of a service, at a moment of the simulation."""

    at_ms: int
    """Milliseconds since 1970, later than the one before it in its market."""
    kind: CommandKind
    fields: dict[str, Any]
    follows: bool = False
    """Whether it belongs to the command before it: a fill to the order that takes. Nothing ends between the two."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. The same plan gives the same commands with the same ids."""

    start: datetime
    duration_s: float
    """0: until it is stopped."""
    markets: int = 4
    users: int = 50
    rate: float = 20.0
    """Commands a second, of all markets together."""
    seed: int = 1
    first_market: int = 1

    def __post_init__(self) -> None:
        for name, value, least, most, hint in (
            ("markets", self.markets, 1, MARKETS_MAX, "Four are usual."),
            ("users", self.users, 4, USERS_MAX, "Some quote and others take: 50 are usual."),
            ("seed", self.seed, 0, SEED_MAX, "Any number in between will do: another one is another simulation."),
            ("first_market", self.first_market, 1, MARKETS_MAX, "1 is BTC/USDT-SIM."),
        ):
            if type(value) is not int or not least <= value <= most:
                raise ValidationError(f"{name} must be {least:,} to {most:,}, got {value!r}.", field=name, hint=hint)
        most = COMMANDS_PER_S_MAX * self.markets
        if not 0 < self.rate <= most:
            raise ValidationError(
                f"rate must be above 0 and at most {most}, {COMMANDS_PER_S_MAX} commands a second in each market,"
                f" got {self.rate!r}.",
                field="rate",
                hint="Simulate more markets, or send fewer commands."
                if self.rate > most
                else "20 a second are usual.",
            )
        check_duration(self.duration_s)

    @property
    def numbers(self) -> range:
        """Of its markets."""
        return range(self.first_market - 1, self.first_market - 1 + self.markets)


def check_duration(seconds: float) -> None:
    if not 0 <= seconds <= DURATION_S_MAX:
        raise ValidationError(
            f"duration must be at most a year, got {seconds:.0f} s.",
            field="duration",
            hint="Write 60s, 5m, 1h or 2d; 0: until it is stopped.",
        )


@dataclass(slots=True)
class SimulationReport:
    """What was done."""

    start: datetime
    seed: int
    commands: dict[str, int] = field(default_factory=dict)
    """By kind."""
    refused: dict[str, int] = field(default_factory=dict)
    """By error code: what the services did not take, such as a fill of an order that somebody else cancelled."""
    simulated_s: float = 0.0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.commands.values())


@dataclass(frozen=True, slots=True)
class SimulationProgress:
    """How far a simulation is."""

    commands: int
    simulated_s: float
    refused: int
