"""A process of the revocation campaign: it validates the tokens that it is told, again and again.

Reads lines ``watch TOKEN``, ``check`` and ``report`` from standard input. ``check`` validates every token once more,
until a server says yes or no. To ``report`` it answers with one line of JSON: for each token when its last accepted
validation began, whether it was ever refused, and whether it was accepted after that. Times are CLOCK_MONOTONIC,
which all processes of a machine share, in nanoseconds. Ends when its standard input ends.

A token that was refused is validated on and on, though not as often: it must not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

import psycopg
import uvloop

from novadex.errors import NotAuthenticatedError, NovaDexError
from novadex.instance import find_endpoints
from novadex.monitoring.logs import configure_logs
from novadex.sessions.service import SessionService
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection

PAUSE_S = 0.001
RETRY_PAUSE_S = 0.01
CHECK_S_MAX = 30.0
REFUSED_PER_ROUND = 10
"""So many of those that were refused are tried beside those that were not."""


class Validator:
    def __init__(self, data_dir: Path) -> None:
        settings = load_settings()
        self.db = DatabaseConnection(find_endpoints(settings, data_dir, "app"), settings)
        self.sessions = SessionService(self.db)
        self.watched: dict[str, None] = {}
        self.last_accepted: dict[str, int] = {}
        self.refused_at: dict[str, int] = {}
        self.accepted_again: set[str] = set()
        self.validations = 0

    async def run(self) -> None:
        validating = asyncio.create_task(self._validate())
        reader = asyncio.StreamReader(limit=1 << 20)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().split():
            if line[0] == "watch":
                self.watched[line[1]] = None
            elif line[0] == "check":
                deadline = time.monotonic() + CHECK_S_MAX
                for token in [*self.watched, *self.refused_at]:
                    while not await self._try(token):
                        assert time.monotonic() < deadline, f"no yes and no no within {CHECK_S_MAX} s"
            else:
                answer = {
                    "accepted": self.last_accepted,
                    "refused": sorted(self.refused_at),
                    "accepted_again": sorted(self.accepted_again),
                    "validations": self.validations,
                }
                print(json.dumps(answer), flush=True)
        validating.cancel()
        await self.db.close()

    async def _validate(self) -> None:
        place = 0
        while True:
            for token in list(self.watched):
                await self._try(token)
            refused = list(self.refused_at)
            for token in (refused[place:] + refused)[:REFUSED_PER_ROUND]:
                await self._try(token)
            place = (place + REFUSED_PER_ROUND) % max(len(refused), 1)
            await asyncio.sleep(PAUSE_S)

    async def _try(self, token: str) -> bool:
        """Validate it once; returns whether the answer was yes or no."""
        began = time.monotonic_ns()
        self.validations += 1
        try:
            await self.sessions.validate(token)
        except NotAuthenticatedError:
            self.refused_at.setdefault(token, time.monotonic_ns())
            self.watched.pop(token, None)
        except (NovaDexError, psycopg.Error):
            await asyncio.sleep(RETRY_PAUSE_S)  # a server is away: neither accepted nor refused
            return False
        else:
            self.last_accepted[token] = max(began, self.last_accepted.get(token, 0))
            # Where it began before the refusal was known, it may end after it.
            if began > self.refused_at.get(token, began):
                self.accepted_again.add(token)
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    configure_logs("validator", "error")  # to standard error: standard output is for reports
    uvloop.run(Validator(parser.parse_args().data_dir).run())


if __name__ == "__main__":
    main()
