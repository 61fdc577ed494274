"""The settings: environment variables and a ``.env`` file, checked once, with secrets that never print.

``docs/reference/settings.md`` and ``.env.example`` are generated from this file (``make docs``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr
from pydantic import ValidationError as PydanticError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from novadex.errors import ConfigurationError

POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")


HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(:(?P<port>\d{1,5}))?")
"""A host, and a port if it has one; an IPv6 address stands in brackets."""


def check_url(url: str, schemes: tuple[str, ...]) -> None:
    """Raise ``ValueError`` that says what is wrong with the URL of a server, without quoting it.

    libpq and redis-py quote what they cannot read, and that can be a part of the password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        raise ValueError(f"it must begin with {' or '.join(s + '://' for s in schemes)}")
    if not rest:
        raise ValueError("it names no host")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if rest.count("@") > 1 or "@" in rest[len(place) :] or re.search(r"%(?![0-9a-fA-F]{2})|[\s\x00-\x1f]", rest):
        raise ValueError(
            "special characters of its user and password are not percent-encoded (@ as %40, / as %2F, % as %25)"
        )
    for host in place.rpartition("@")[2].split(","):
        match = HOST.fullmatch(host)
        if not match or (match["port"] and not 1 <= int(match["port"]) <= 65535):
            raise ValueError("its port is not a number from 1 to 65535")


def host_of(url: str) -> str:
    """The hosts and ports of a URL, which may be shown.

    >>> host_of("postgresql://app:secret@db-1:5432,db-2/novadex_db")
    'db-1:5432,db-2'
    """
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def _postgres_url(value: SecretStr) -> SecretStr:
    check_url(value.get_secret_value(), POSTGRES_SCHEMES)
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    check_url(value.get_secret_value(), REDIS_SCHEMES)
    return value


def _postgres_urls(value: SecretStr) -> SecretStr:
    for url in split_urls(value):
        check_url(url, POSTGRES_SCHEMES)
    return value


def split_urls(value: SecretStr | None) -> list[str]:
    """The URLs of a setting that takes several, separated by commas."""
    return [url.strip() for url in value.get_secret_value().split(",") if url.strip()] if value else []


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
PostgresUrls = Annotated[SecretStr, AfterValidator(_postgres_urls), NoDecode]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]


class Settings(BaseSettings):
    """All settings. Every field is one environment variable; its alias is the variable's name."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    database_url: PostgresUrl | None = Field(
        None,
        alias="DATABASE_URL",
        description="Main PostgreSQL, the truth. Unset: an embedded server.",
        examples=["postgresql://novadex_app:password@localhost:5432/novadex_db"],
    )
    analytics_database_url: PostgresUrl | None = Field(
        None,
        alias="ANALYTICS_DATABASE_URL",
        description="Analytics PostgreSQL. Unset: an embedded server.",
        examples=["postgresql://novadex_app:password@localhost:5433/novadex_analytics"],
    )
    redis_url: RedisUrl | None = Field(
        None,
        alias="REDIS_URL",
        description="Cache server, Redis 6 or later or Valkey. Unset: an embedded server.",
        examples=["redis://localhost:6379"],
    )
    redis_session_url: RedisUrl | None = Field(
        None,
        alias="REDIS_SESSION_URL",
        description="Session server, separate from the cache. Unset: an embedded server.",
        examples=["redis://localhost:6380"],
    )
    database_owner_url: PostgresUrl | None = Field(
        None,
        alias="DATABASE_OWNER_URL",
        description="Main PostgreSQL as the role that owns the schema, for migrations. Unset: DATABASE_URL.",
        examples=["postgresql://novadex_owner:password@localhost:5432/novadex_db"],
    )
    analytics_database_owner_url: PostgresUrl | None = Field(
        None,
        alias="ANALYTICS_DATABASE_OWNER_URL",
        description="Analytics PostgreSQL as the owner, for migrations. Unset: ANALYTICS_DATABASE_URL.",
        examples=["postgresql://novadex_owner:password@localhost:5433/novadex_analytics"],
    )
    database_replica_urls: PostgresUrls | None = Field(
        None,
        alias="DATABASE_REPLICA_URLS",
        description="Read replicas of main, separated by commas. Unset: reads go to the primary.",
        examples=["postgresql://novadex_readonly:password@replica-1:5432/novadex_db"],
    )
    data_dir: Path | None = Field(
        None,
        alias="NOVADEX_DATA_DIR",
        description="Folder of the local instance. Unset: ~/.local/share/novadex, as root /var/lib/novadex.",
        examples=["/srv/novadex"],
    )
    server_user: str | None = Field(
        None,
        alias="NOVADEX_SERVER_USER",
        description="As root only: the user that the embedded servers run as. Unset: novadex if there is"
        " such a user, else nobody.",
        examples=["novadex"],
    )
    api_host: str = Field(
        "127.0.0.1", alias="NOVADEX_API_HOST", description="Address the API listens on.", examples=["0.0.0.0"]
    )
    api_port: int = Field(
        3000,
        alias="NOVADEX_API_PORT",
        ge=1,
        le=65535,
        description="Port of the API. `novadex up` takes another where this one is in use.",
        examples=["3000"],
    )
    worker_port: int = Field(
        3002,
        alias="NOVADEX_WORKER_PORT",
        ge=1,
        le=65535,
        description="Port on which the worker shows its health and metrics, on 127.0.0.1. `novadex up` takes"
        " another where this one is in use.",
        examples=["3002"],
    )
    pool_size_max: int = Field(
        8,
        alias="NOVADEX_POOL_SIZE_MAX",
        ge=1,
        le=1000,
        description="Connections per process and database, at most.",
        examples=["8"],
    )
    pool_wait_s_max: float = Field(
        5.0,
        alias="NOVADEX_POOL_WAIT_S_MAX",
        gt=0,
        le=600,
        description="Seconds a call waits for a free connection, at most.",
        examples=["5"],
    )
    connect_timeout_s: int = Field(
        5,
        alias="NOVADEX_CONNECT_TIMEOUT_S",
        ge=1,
        le=600,
        description="Seconds to wait for a new connection.",
        examples=["5"],
    )
    statement_timeout_ms: int = Field(
        30_000,
        alias="NOVADEX_STATEMENT_TIMEOUT_MS",
        ge=1,
        le=86_400_000,
        description="Milliseconds a statement may run.",
        examples=["30000"],
    )
    lock_timeout_ms: int = Field(
        4_000,
        alias="NOVADEX_LOCK_TIMEOUT_MS",
        ge=1,
        le=86_400_000,
        description="Milliseconds a statement may wait for a lock.",
        examples=["4000"],
    )
    idle_in_transaction_timeout_ms: int = Field(
        15_000,
        alias="NOVADEX_IDLE_IN_TRANSACTION_TIMEOUT_MS",
        ge=1,
        le=86_400_000,
        description="Milliseconds a transaction may stand idle: it holds back vacuum and the projections.",
        examples=["15000"],
    )
    transaction_timeout_ms: int = Field(
        60_000,
        alias="NOVADEX_TRANSACTION_TIMEOUT_MS",
        ge=1,
        le=86_400_000,
        description="Milliseconds a transaction may last (PostgreSQL 17 and later enforce it).",
        examples=["60000"],
    )
    pgbouncer: bool = Field(
        False,
        alias="NOVADEX_PGBOUNCER",
        description="Set where DATABASE_URL is a PgBouncer in transaction mode: prepares no statements,"
        " keeps no session state.",
        examples=["true"],
    )
    replica_lag_ms_max: int = Field(
        1_000,
        alias="NOVADEX_REPLICA_LAG_MS_MAX",
        ge=0,
        le=3_600_000,
        description="Milliseconds a replica may be behind and still be read from.",
        examples=["1000"],
    )
    group_commit_queue_max: int = Field(
        20_000,
        alias="NOVADEX_GROUP_COMMIT_QUEUE_MAX",
        ge=1,
        le=10_000_000,
        description="Trades that may wait to be written in one process; past it a call waits, then is refused.",
        examples=["20000"],
    )
    group_commit_batch_max: int = Field(
        512,
        alias="NOVADEX_GROUP_COMMIT_BATCH_MAX",
        ge=1,
        le=100_000,
        description="Trades in one transaction, at most.",
        examples=["512"],
    )
    group_commit_wait_s_max: float = Field(
        5.0,
        alias="NOVADEX_GROUP_COMMIT_WAIT_S_MAX",
        gt=0,
        le=600,
        description="Seconds a call waits for a place in the queue, at most.",
        examples=["5"],
    )
    projection_batch_max: int = Field(
        5_000,
        alias="NOVADEX_PROJECTION_BATCH_MAX",
        ge=1,
        le=1_000_000,
        description="Trades that the projection applies in one transaction, at most.",
        examples=["5000"],
    )
    projection_poll_ms: int = Field(
        100,
        alias="NOVADEX_PROJECTION_POLL_MS",
        ge=1,
        le=60_000,
        description="Milliseconds between looks for new trades while there are none.",
        examples=["100"],
    )
    metrics_interval_s: float = Field(
        5.0,
        alias="NOVADEX_METRICS_INTERVAL_S",
        ge=0.1,
        le=3600,
        description="Seconds between two records in performance_metrics.",
        examples=["5"],
    )
    health_interval_s: float = Field(
        2.0,
        alias="NOVADEX_HEALTH_INTERVAL_S",
        ge=0.1,
        le=600,
        description="Seconds between two health checks of a service.",
        examples=["2"],
    )
    health_deadline_s: float = Field(
        1.0,
        alias="NOVADEX_HEALTH_DEADLINE_S",
        ge=0.05,
        le=60,
        description="Seconds a health check may take before it counts as failed.",
        examples=["1"],
    )
    log_level: str = Field(
        "info",
        alias="NOVADEX_LOG_LEVEL",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error.",
        examples=["info"],
    )


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and ``.env``.

    Raises ``ConfigurationError`` that names each bad variable, what is wrong with it and an example, and
    never its value.

    >>> load_settings(pool_size_max=3).pool_size_max
    3
    """
    try:
        return Settings(**overrides)
    except PydanticError as error:
        problems = [_explain(problem) for problem in error.errors(include_input=False)]
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f".env cannot be read: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'}.",
            hint="Write it anew, from .env.example.",
        ) from None
    raise ConfigurationError("; ".join(problems) + ".", hint="Correct it in the environment or in .env.")


def _explain(problem: Any) -> str:
    variable = str(problem["loc"][0]) if problem["loc"] else "settings"
    examples = next(
        (field.examples for name, field in Settings.model_fields.items() if variable in (field.alias, name)),
        None,
    )
    reason = re.sub(r"^Value error, ", "", problem["msg"])
    example = f", for example {variable}={examples[0]}" if examples else ""
    return f"{variable} is wrong: {reason}{example}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
