"""Watches a server that is not ours: reached and migrated at the start, looked at from time to time."""

from __future__ import annotations

from dataclasses import dataclass

from novadex.local.desk import Desk, Failed, Usable
from novadex.local.external import ExternalServer

CHECK_S = 5.0


@dataclass(slots=True)
class Watcher:
    """One external server."""

    server: ExternalServer
    desk: Desk

    def run(self) -> None:
        """The thread: ends when the supervisor stops, or when the server cannot be used at the start."""
        name = self.server.name
        try:
            self.server.reach(self.desk.stopping)
            self.server.migrate()
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor must hear of it and stop
            self.desk.inbox.put(Failed(name, error))
            return
        self.desk.usable[name].set()
        self.desk.inbox.put(Usable(name))
        problem: str | None = None
        while not self.desk.stopping.wait(CHECK_S):
            found = self.server.complaint()
            if found != problem:
                problem = found
                self.desk.record(name, "external", detail=problem)
                self.desk.say(f"{name} at {self.server.address}: {problem or 'answers again'}")
