"""Looks at the worker: its process answers, and the projections keep up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from novadex.analytics.metrics import projection_lag_seconds
from novadex.errors import ConfigurationError, UnavailableError
from novadex.instance import data_dir_of, read_instance
from novadex.monitoring.projection_probe import age_s

if TYPE_CHECKING:
    from pathlib import Path

    from novadex.monitoring.projection_probe import ProjectionProbe
    from novadex.settings import Settings

REQUEST = b"GET /api/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class WorkerProbe:
    """The process is asked where a supervisor of this machine runs it; a worker elsewhere is seen by its
    projections alone."""

    def __init__(self, projections: ProjectionProbe, settings: Settings, data_dir: Path | None = None) -> None:
        self.projections = projections
        self.folder = data_dir_of(settings, data_dir)

    async def look(self, deadline_s: float) -> str | None:
        port = await asyncio.to_thread(self._port)
        answers, problem = await asyncio.gather(
            _answers(port, deadline_s), self.projections.look(deadline_s), return_exceptions=True
        )
        self._show_lag()
        if answers is False:
            raise UnavailableError(f"The worker does not answer at 127.0.0.1:{port}.")
        if answers is True and isinstance(problem, UnavailableError):
            return f"The worker answers, but its projections cannot be seen: {problem.message}"
        if isinstance(answers, BaseException):
            raise answers
        if isinstance(problem, BaseException):
            raise problem
        return problem

    def _show_lag(self) -> None:
        """The metric that the projection shows in the worker, seen from here; it grows while nothing is stored."""
        for state in self.projections.states:
            if state.watermark is not None:
                lag_s = partial(age_s, state.watermark)
                projection_lag_seconds.labels(state.name).set_function(lag_s)

    def _port(self) -> int | None:
        try:
            instance = read_instance(self.folder)
        except ConfigurationError:
            return None
        if instance is None or not instance.running():
            return None
        worker = instance.services.get("worker")
        return worker.port if worker else None

    async def close(self) -> None:
        await self.projections.close()


async def _answers(port: int | None, deadline_s: float) -> bool | None:
    """Whether somebody answers there; None where there is nobody to ask."""
    if port is None:
        return None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            status_line = await reader.readline()
    except (TimeoutError, OSError, ValueError):
        return False
    else:
        return status_line.startswith(b"HTTP/1.1 200")
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await writer.wait_closed()
