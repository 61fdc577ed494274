"""Logs: one JSON object a line, or readable lines on a terminal. Passwords in URLs and tokens are masked."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+]*://)[^\s/@]*@|(?P<name>\bpassword\s*=\s*)\S+", re.IGNORECASE)
_TOKEN = re.compile(r"(nd[sk]_)[A-Za-z0-9_-]{43}")
"""Of a session or an API key."""


def mask_secrets(text: str) -> str:
    """The text without what stands before the ``@`` of a URL or behind ``password=``, and without tokens.

    >>> mask_secrets("no connection to postgresql://app:secret@db:5432/novadex_db")
    'no connection to postgresql://***@db:5432/novadex_db'
    """
    masked = _CREDENTIALS.sub(
        lambda match: f"{match['scheme']}***@" if match["scheme"] else f"{match['name']}***", text
    )
    return _TOKEN.sub(r"\1***", masked)


def _mask_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = mask_secrets(value)
    return event


def configure_logs(program: str, level: str) -> None:
    """Send the logs of this process, those of libraries too, to standard error."""

    def name_program(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("program", program)
        return event

    on_terminal = sys.stderr.isatty()
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_program,
        # Plain tracebacks: those that show local variables show passwords.
        structlog.processors.format_exc_info,
        _mask_event,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
