"""The revocation campaign: how long is a revoked session still accepted, anywhere?

``python -m tests.faults.revocation_campaign --revocations 2000 --seed 1``. Four processes validate the same tokens
again and again, warm, through the service; one of them is stopped (SIGSTOP) and continued now and then. This process
revokes sessions, and meanwhile flushes the session server and kills it and the cache server (SIGKILL).

The delay of a revocation in a process: from its acknowledgement to the *beginning* of the last validation that
still accepted the token. A validation that began before the acknowledgement may accept it, whenever its process comes
to end it. What was refused once is validated on and on, and all once more at the end: every revoked token must be
refused in every process then, and never have been accepted after a refusal; every other one must be accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from novadex.instance import find_endpoints
from novadex.sessions.service import SessionService
from novadex.settings import Settings
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.faults.campaign import novadex
from tests.servers import server_folder

VALIDATORS = 4
SESSIONS_PER_USER = 50
KEPT_SHARE = 0.2
"""Of the sessions, which are not revoked and must go on."""
BATCH = 100
"""Tokens that are watched at a time."""
PAUSE_S = (0.0, 0.03)
TROUBLE = {"stop": 0.08, "flush": 0.03, "kill sessions": 0.01, "kill cache": 0.01}
"""How often something happens beside a revocation; each at least once."""
STOP_S = (0.05, 0.4)
WARM_WITHIN_S = 30.0
P99_MS_MAX, MS_MAX = 50.0, 250.0


@dataclass
class Result:
    """What came of it; delays in milliseconds over all processes."""

    revocations: int
    validations: int
    delay_p50_ms: float
    delay_p99_ms: float
    delay_max_ms: float
    accepted_at_the_end: int
    """Revoked tokens that a process still accepts: must be 0."""
    accepted_again: int
    """Revoked tokens that a process refused and accepted later: must be 0."""
    refused_wrongly: int
    """Tokens that nobody revoked, and a process refuses: must be 0."""
    trouble: dict[str, int]

    @property
    def held(self) -> bool:
        lost = self.accepted_at_the_end or self.accepted_again or self.refused_wrongly
        return (
            not lost
            and set(self.trouble) == set(TROUBLE)
            and self.delay_p99_ms <= P99_MS_MAX
            and self.delay_max_ms <= MS_MAX
        )


class Campaign:
    def __init__(self, data_dir: Path, seed: int) -> None:
        self.data_dir = data_dir
        self.random = random.Random(seed)  # noqa: S311 - a seed is the point
        self.trouble: Counter[str] = Counter()
        self.validators: list[subprocess.Popen[str]] = []
        self.acknowledged: dict[str, int] = {}
        self.kept: set[str] = set()
        self.stops: set[asyncio.Task[None]] = set()
        self.due: dict[str, int] = {}
        """Trouble that did not come yet: after how many revocations it is made, chance or not."""

    async def run(self, revocations: int) -> Result:
        started = await asyncio.to_thread(novadex, "up", "--detach", data_dir=self.data_dir)
        assert started.returncode == 0, started.stderr
        settings = Settings(NOVADEX_SESSIONS_PER_USER_MAX=SESSIONS_PER_USER)  # pyright: ignore[reportCallIssue]
        command = [sys.executable, "-m", "tests.faults.revocation_validator", "--data-dir", str(self.data_dir)]
        for _ in range(VALIDATORS):
            process = await asyncio.to_thread(
                subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self.validators.append(process)
        # In the first half, so that there is time to try again where the server is away already.
        self.due = {what: self.random.randrange(revocations // 2 + 1) for what in TROUBLE}
        async with DatabaseConnection(find_endpoints(settings, self.data_dir, "app"), settings) as db:
            while len(self.acknowledged) < revocations:
                await self._batch(db, min(BATCH, revocations - len(self.acknowledged)))
        before = await self._reports()
        for validator in self.validators:
            self._tell(validator, "check")
        reports = await self._reports()
        ordered = sorted(
            max(report["accepted"][token] - at, 0) / 1e6
            for report in reports
            for token, at in self.acknowledged.items()
        )
        revoked = set(self.acknowledged)
        return Result(
            revocations=len(revoked),
            validations=sum(report["validations"] for report in reports),
            delay_p50_ms=round(ordered[len(ordered) // 2], 2),
            delay_p99_ms=round(ordered[int(len(ordered) * 0.99)], 2),
            delay_max_ms=round(ordered[-1], 2),
            accepted_at_the_end=sum(
                now["accepted"][token] > then["accepted"][token] or token not in now["refused"]
                for then, now in zip(before, reports, strict=True)
                for token in revoked
            ),
            accepted_again=sum(len(revoked & set(report["accepted_again"])) for report in reports),
            refused_wrongly=sum(len(self.kept & set(report["refused"])) for report in reports),
            trouble=dict(self.trouble),
        )

    async def _batch(self, db: DatabaseConnection, revocations: int) -> None:
        """New sessions, watched by all, of which so many are revoked one after the other."""
        sessions = SessionService(db)
        count = int(revocations / (1 - KEPT_SHARE)) + 1
        made = []
        while len(made) < count:
            user = await UserService(db).create_user()
            made += [await sessions.create(user.id) for _ in range(min(SESSIONS_PER_USER, count - len(made)))]
        for validator in self.validators:
            self._tell(validator, *(f"watch {session.token}" for session in made))
        await self._until(lambda report: all(session.token in report["accepted"] for session in made), "warm")
        revoked, kept = made[:revocations], made[revocations:]
        for session in revoked:
            await asyncio.sleep(self.random.uniform(*PAUSE_S))  # a random moment
            await self._make_trouble(db)
            await sessions.revoke(session.session.id)
            self.acknowledged[session.token] = time.monotonic_ns()
        await self._until(
            lambda report: {session.token for session in revoked} <= set(report["refused"]), "refused everywhere"
        )
        self.kept |= {session.token for session in kept}

    async def _make_trouble(self, db: DatabaseConnection) -> None:
        for what, share in TROUBLE.items():
            due = len(self.acknowledged) >= self.due.get(what, sys.maxsize)
            if self.random.random() >= share and not due:
                continue
            if await self._make(what, db):
                self.trouble[what] += 1
                self.due.pop(what, None)

    async def _make(self, what: str, db: DatabaseConnection) -> bool:
        """Whether it could be done: the server may have been killed a moment ago."""
        if what == "stop":
            self.stops.add(asyncio.create_task(self._stop_for_a_while(self.validators[-1])))
        elif what == "flush":
            try:
                async with redis.Redis.from_url(db.endpoints.sessions) as client:
                    await client.flushall()
            except redis.RedisError:
                return False
        else:
            status = await asyncio.to_thread(novadex, "status", "--json", data_dir=self.data_dir)
            pid = json.loads(status.stdout)["services"][what.removeprefix("kill ")]["pid"]
            if not pid:
                return False
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return True

    async def _stop_for_a_while(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(*STOP_S))
        process.send_signal(signal.SIGCONT)

    async def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + WARM_WITHIN_S
        while not all(condition(report) for report in await self._reports()):
            assert time.monotonic() < deadline, f"not {what} within {WARM_WITHIN_S} s"
            await asyncio.sleep(0.05)

    async def _reports(self) -> list[dict[str, Any]]:
        def ask(validator: subprocess.Popen[str]) -> dict[str, Any]:
            self._tell(validator, "report")
            assert validator.stdout is not None
            return json.loads(validator.stdout.readline())

        return await asyncio.gather(*(asyncio.to_thread(ask, validator) for validator in self.validators))

    @staticmethod
    def _tell(validator: subprocess.Popen[str], *lines: str) -> None:
        assert validator.stdin is not None
        validator.stdin.write("".join(f"{line}\n" for line in lines))
        validator.stdin.flush()

    def end(self) -> None:
        for validator in self.validators:
            validator.send_signal(signal.SIGCONT)
            assert validator.stdin is not None
            assert validator.stdout is not None
            validator.stdin.close()
            try:
                validator.wait(timeout=10)
            finally:
                validator.kill()
                validator.stdout.close()
        novadex("down", data_dir=self.data_dir)


def run(revocations: int, seed: int) -> Result:
    """A whole campaign on a new instance."""
    folder = server_folder("novadex-revocations-")
    campaign = Campaign(folder / "instance", seed)
    try:
        return asyncio.run(campaign.run(revocations))
    finally:
        try:
            campaign.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long is a revoked session still accepted?")
    parser.add_argument("--revocations", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    result = run(arguments.revocations, arguments.seed)
    print(json.dumps(asdict(result) | {"held": result.held}, indent=2))
    sys.exit(0 if result.held else 3)


if __name__ == "__main__":
    main()
