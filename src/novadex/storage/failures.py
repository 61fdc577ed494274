"""Which database failures can be tried again, and how unavailable servers are reported."""

from __future__ import annotations

import psycopg
import psycopg_pool
from psycopg import errors

from novadex.errors import NovaDexError, OverloadedError, TimeoutExceededError, UnavailableError

ROLLED_BACK = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server undid the whole transaction: running it again is always safe."""


def connection_lost(error: BaseException) -> bool:
    """Whether the connection or the server went away. The outcome of what ran on it is then unknown."""
    if isinstance(
        error, (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, psycopg.InterfaceError)
    ):
        return True
    if isinstance(error, (errors.PipelineAborted, psycopg_pool.TooManyRequests)):
        return False
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate.startswith("08"))


def refused_to_connect(error: BaseException) -> bool:
    """Whether there was no connection at all: nothing was sent."""
    return isinstance(error, (psycopg_pool.PoolTimeout, errors.CannotConnectNow, errors.TooManyConnections))


def translate(error: Exception, database: str, refusal: str | None = None) -> NovaDexError | None:
    """The error of this package for a server that does not answer in time; None for all others.

    ``refusal`` is why the last attempt to connect failed.
    """
    if isinstance(error, psycopg_pool.TooManyRequests):
        return OverloadedError(f"Too many calls wait for a connection to {database}.", hint="Try again later.")
    if isinstance(error, psycopg_pool.PoolTimeout):
        if refusal:
            return UnavailableError(
                f"No connection to {database}: {refusal}.", hint="Is the server running? See novadex status."
            )
        return UnavailableError(
            f"No connection to {database} became free in time.",
            hint="NOVADEX_POOL_SIZE_MAX bounds the connections, NOVADEX_POOL_WAIT_S_MAX the wait.",
        )
    if isinstance(error, psycopg_pool.PoolClosed):
        return UnavailableError(f"The connection pool of {database} is closed.", hint="Open a new one.")
    if isinstance(error, errors.QueryCanceled):
        return TimeoutExceededError(
            f"A statement on {database} was cancelled: {error.diag.message_primary}.",
            hint="NOVADEX_STATEMENT_TIMEOUT_MS bounds statements.",
        )
    if isinstance(error, errors.LockNotAvailable):
        return TimeoutExceededError(
            f"A lock on {database} was not free in time: {error.diag.message_primary}.",
            hint="Try again; NOVADEX_LOCK_TIMEOUT_MS bounds the wait.",
        )
    if isinstance(error, (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout)):
        return TimeoutExceededError(
            f"A transaction on {database} lasted too long: {error.diag.message_primary}.",
            hint="Make it shorter; see NOVADEX_TRANSACTION_TIMEOUT_MS.",
        )
    if connection_lost(error):
        return UnavailableError(
            f"The connection to {database} was lost: {str(error).strip() or type(error).__name__}.",
            hint="What was under way may or may not have been carried out; with the same id it is safe to retry.",
        )
    return None
