"""The settings: environment variables and a ``.env`` file, checked once, with secrets that never print.

``docs/reference/settings.md`` and ``.env.example`` are generated from this file (``make docs``).
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import AfterValidator, Field, SecretStr
from pydantic import ValidationError as PydanticError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from novadex.errors import ConfigurationError

POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_PROTOCOLS = ("redis", "rediss", "valkey", "valkeys")
REDIS_KINDS = ("sentinel", "cluster")
REDIS_SCHEMES = (
    *REDIS_PROTOCOLS,
    "unix",
    *(f"{protocol}+{kind}" for kind in REDIS_KINDS for protocol in REDIS_PROTOCOLS),
)
REDIS_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
"""What the query of a URL with TLS may say: files in PEM, and ``false`` where certificates do not name the host."""
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
MASTER_KEY_BYTES = 32

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


def check_redis_url(url: str) -> None:
    """Raise ``ValueError`` that says what is wrong with the URL of a cache server, without quoting it.

    >>> check_redis_url("redis+sentinel://sentinel-1,sentinel-2:26379/novadex/0")
    """
    check_url(url, REDIS_SCHEMES)
    scheme, _, rest = url.partition("://")
    tls = scheme.partition("+")[0] in ("rediss", "valkeys")
    _check_options(url, (*(REDIS_TLS_OPTIONS if tls else ()), *(() if "+" in scheme else ("db",))))
    if scheme == "unix":
        return
    kind = scheme.partition("+")[2]
    place, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    service, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    if kind == "sentinel" and not service:
        raise ValueError("it names no service: redis+sentinel://HOST,HOST/SERVICE")
    if database.strip("/") and not re.fullmatch(r"\d{1,9}/?", database, re.ASCII):
        raise ValueError("its database is not a number")
    if kind == "cluster" and database.strip("/0"):
        raise ValueError("a Cluster has database 0 only")
    if not kind and "," in place:
        raise ValueError("it names several hosts: that is for redis+sentinel:// and redis+cluster://")


def _check_options(url: str, known: tuple[str, ...]) -> None:
    for name, value in redis_options(url):
        if name not in known:
            shown = name if re.fullmatch(r"[a-z_]{1,40}", name) else "an option without a name"
            raise ValueError(f"it has {shown} behind its ?, and may have {', '.join(known) or 'nothing'}")
        if not value or (name == "db" and not re.fullmatch(r"\d{1,9}", value, re.ASCII)):
            raise ValueError(f"its {name} is {'empty' if not value else 'not a number'}")
        if name == "ssl_check_hostname" and value not in ("true", "false"):
            raise ValueError("its ssl_check_hostname is neither true nor false")


def redis_options(url: str) -> list[tuple[str, str]]:
    """What stands behind the ``?`` of a URL.

    >>> redis_options("rediss+cluster://n-1?ssl_ca_certs=/etc/ca%20of%20ours.pem")
    [('ssl_ca_certs', '/etc/ca of ours.pem')]
    """
    return parse_qsl(url.partition("?")[2].partition("#")[0], keep_blank_values=True)


def host_of(url: str) -> str:
    """The hosts and ports of a URL, which may be shown.

    >>> host_of("postgresql://app:secret@db-1:5432,db-2/novadex_db")
    'db-1:5432,db-2'
    """
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def check_smtp_url(url: str) -> None:
    """Raise ``ValueError`` that says what is wrong with the URL of a mail server, without quoting it.

    >>> check_smtp_url("smtps://novadex:secret@mail.example:465")
    """
    check_url(url, SMTP_SCHEMES)
    scheme, _, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    account, _, host = place.rpartition("@")
    if not host or "," in host:
        raise ValueError("it must name one host")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if account and scheme == "smtp" and name not in LOOPBACK_HOSTS:
        raise ValueError("its password would be sent in the clear: use smtps:// or smtp+starttls://")


def _smtp_url(value: SecretStr) -> SecretStr:
    check_smtp_url(value.get_secret_value())
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    check_url(value.get_secret_value(), POSTGRES_SCHEMES)
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    check_redis_url(value.get_secret_value())
    return value


def _postgres_urls(value: SecretStr) -> SecretStr:
    for url in split_urls(value):
        check_url(url, POSTGRES_SCHEMES)
    return value


def split_urls(value: SecretStr | None) -> list[str]:
    """The URLs of a setting that takes several, separated by commas."""
    return [url.strip() for url in value.get_secret_value().split(",") if url.strip()] if value else []


def master_keys_of(value: SecretStr) -> dict[int, bytes]:
    """The master keys of ``VERSION:BASE64,VERSION:BASE64``, by version.

    Raises ``ValueError`` that says what is wrong, without quoting it.
    """
    keys: dict[int, bytes] = {}
    for number, entry in enumerate(value.get_secret_value().split(","), start=1):
        version, separator, encoded = entry.strip().partition(":")
        if not separator or not re.fullmatch(r"[1-9]\d{0,17}", version, re.ASCII):
            raise ValueError(f"its entry {number} is not VERSION:BASE64 with a version from 1 up")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the key of its version {version} is not base64") from None
        if len(key) != MASTER_KEY_BYTES:
            raise ValueError(f"the key of its version {version} has {len(key)} bytes, not {MASTER_KEY_BYTES}")
        if int(version) in keys:
            raise ValueError(f"its version {version} stands there twice")
        keys[int(version)] = key
    return keys


def _master_keys(value: SecretStr) -> SecretStr:
    master_keys_of(value)
    return value


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
PostgresUrls = Annotated[SecretStr, AfterValidator(_postgres_urls), NoDecode]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
SmtpUrl = Annotated[SecretStr, AfterValidator(_smtp_url)]
MasterKeysText = Annotated[SecretStr, AfterValidator(_master_keys)]


def _networks(value: str) -> str:
    for network in value.split(","):
        try:
            ip_network(network)
        except ValueError:
            raise ValueError("it is not a list of networks separated by commas alone") from None
    return value


NetworkList = Annotated[str, AfterValidator(_networks)]
DOMAIN = r"([A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:[1-9][0-9]{0,4})?"
CHAIN_ID = r"([1-9][0-9]{0,19}|solana:(mainnet|testnet|devnet|localnet))"


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
        description="Cache server, Redis 6 or later or Valkey: one, a master behind Sentinels"
        " (redis+sentinel://HOST,HOST/SERVICE), or a Cluster (redis+cluster://HOST,HOST); rediss:// by TLS. Unset: an"
        " embedded server.",
        examples=["redis://localhost:6379"],
    )
    redis_session_url: RedisUrl | None = Field(
        None,
        alias="REDIS_SESSION_URL",
        description="Session server, separate from the cache, by the same forms of URL. Unset: an embedded server.",
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
    database_listen_url: PostgresUrl | None = Field(
        None,
        alias="DATABASE_LISTEN_URL",
        description="Main PostgreSQL without the PgBouncer, to hear of changes: needed for caching where"
        " NOVADEX_PGBOUNCER is set. Unset: DATABASE_URL.",
        examples=["postgresql://novadex_app:password@localhost:5432/novadex_db"],
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
    book_shards: int = Field(
        1,
        alias="NOVADEX_BOOK_SHARDS",
        ge=1,
        le=64,
        description="Parts that the books of all markets are divided into, each kept by one worker. The same in every"
        " program.",
        examples=["4"],
    )
    valuation_asset: str | None = Field(
        None,
        alias="NOVADEX_VALUATION_ASSET",
        pattern=r"^[A-Z0-9][A-Z0-9._]{0,31}$",
        description="What portfolios are valued in. Unset: the quote asset of most markets.",
        examples=["USDT"],
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
    session_idle_s: int = Field(
        1_800,
        alias="NOVADEX_SESSION_IDLE_S",
        ge=60,
        le=2_592_000,
        description="Seconds after which a session that is not used ends.",
        examples=["1800"],
    )
    session_absolute_s: int = Field(
        28_800,
        alias="NOVADEX_SESSION_ABSOLUTE_S",
        ge=60,
        le=31_536_000,
        description="Seconds after which a session ends in any case, refreshed or not.",
        examples=["28800"],
    )
    sessions_per_user_max: int = Field(
        10,
        alias="NOVADEX_SESSIONS_PER_USER_MAX",
        ge=1,
        le=1_000,
        description="Sessions that a user may have at once; one more ends the one that was not used for longest.",
        examples=["10"],
    )
    reauthentication_s: int = Field(
        300,
        alias="NOVADEX_REAUTHENTICATION_S",
        ge=1,
        le=86_400,
        description="Seconds after a sign-in during which sensitive actions are possible without another one.",
        examples=["300"],
    )
    api_keys_per_user_max: int = Field(
        50,
        alias="NOVADEX_API_KEYS_PER_USER_MAX",
        ge=1,
        le=10_000,
        description="API keys that a user may have at once.",
        examples=["50"],
    )
    audit_anchor_file: Path | None = Field(
        None,
        alias="NOVADEX_AUDIT_ANCHOR_FILE",
        description="Where the end of the audit log's chain is written down, outside the database; best on another"
        " disk. Unset: audit-anchors.jsonl in the data folder.",
        examples=["/mnt/worm/audit-anchors.jsonl"],
    )
    log_level: str = Field(
        "info",
        alias="NOVADEX_LOG_LEVEL",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error.",
        examples=["info"],
    )

    # Keys of encryption
    master_keys: MasterKeysText | None = Field(
        None,
        alias="NOVADEX_MASTER_KEYS",
        description="Master keys of the encryption of personal data, VERSION:BASE64 of 32 bytes each, separated by"
        " commas. Unset: the file.",
        examples=["1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
    )
    master_key_file: Path | None = Field(
        None,
        alias="NOVADEX_MASTER_KEY_FILE",
        description="File of the master keys, which only its owner may read. Unset: `master_keys.json` in the data"
        " folder, which `novadex up` makes.",
        examples=["/srv/novadex-keys/master_keys.json"],
    )
    erasure_file: Path | None = Field(
        None,
        alias="NOVADEX_ERASURE_FILE",
        description="List of erased users, applied again after a restore. Keep it where a restore of the database"
        " does not touch it. Unset: `erasures.jsonl` in the data folder.",
        examples=["/srv/novadex-keys/erasures.jsonl"],
    )

    # Sign-in with a wallet
    sign_in_domain: str | None = Field(
        None,
        alias="NOVADEX_SIGN_IN_DOMAIN",
        max_length=2_000,
        pattern=rf"^{DOMAIN}(,{DOMAIN})*$",
        description="Domains that users sign in to with a wallet, separated by commas: host, and port where the"
        " address of the site shows one. Unset: nobody can sign in with a wallet.",
        examples=["novadex.example"],
    )
    sign_in_origins: str | None = Field(
        None,
        alias="NOVADEX_SIGN_IN_ORIGINS",
        max_length=2_000,
        pattern=rf"^https?://{DOMAIN}(,https?://{DOMAIN})*$",
        description="Origins that the URI of a sign-in message may have, separated by commas. Unset: https:// and"
        " each domain, http:// for this machine itself.",
        examples=["https://novadex.example"],
    )
    sign_in_chain_ids: str = Field(
        "1,solana:mainnet",
        alias="NOVADEX_SIGN_IN_CHAIN_IDS",
        max_length=2_000,
        pattern=rf"^{CHAIN_ID}(,{CHAIN_ID})*$",
        description="Chains that a sign-in message may name, separated by commas: numbers of Ethereum's family and"
        " Solana's networks.",
        examples=["1,solana:mainnet"],
    )
    sign_in_create_users: bool = Field(
        True,
        alias="NOVADEX_SIGN_IN_CREATE_USERS",
        description="Whether a wallet that nobody has becomes a new user when it signs in.",
        examples=["true"],
    )
    sign_in_nonce_lifetime_s: float = Field(
        300.0,
        alias="NOVADEX_SIGN_IN_NONCE_LIFETIME_S",
        ge=10,
        le=300,
        description="Seconds from asking for a sign-in message to sending it signed, at most.",
        examples=["300"],
    )
    sign_in_nonces_max: int = Field(
        100_000,
        alias="NOVADEX_SIGN_IN_NONCES_MAX",
        ge=1,
        le=10_000_000,
        description="Sign-ins that may be under way at once; past it new ones are refused for a while.",
        examples=["100000"],
    )

    # Rate limits
    rate_limits: bool = Field(
        True,
        alias="NOVADEX_RATE_LIMITS",
        description="Whether requests over HTTP are limited in number.",
        examples=["true"],
    )
    rate_limit_address_per_minute: int = Field(
        1_200,
        alias="NOVADEX_RATE_LIMIT_ADDRESS_PER_MINUTE",
        ge=1,
        le=1_000_000_000,
        description="Requests per minute from one network address (IPv6: one /64).",
        examples=["1200"],
    )
    rate_limit_user_per_minute: int = Field(
        6_000,
        alias="NOVADEX_RATE_LIMIT_USER_PER_MINUTE",
        ge=1,
        le=1_000_000_000,
        description="Requests per minute of one user, over all of their sessions and API keys.",
        examples=["6000"],
    )
    rate_limit_api_key_per_minute: int = Field(
        3_000,
        alias="NOVADEX_RATE_LIMIT_API_KEY_PER_MINUTE",
        ge=1,
        le=1_000_000_000,
        description="Requests per minute by one API key; they count for its user too.",
        examples=["3000"],
    )
    rate_limit_write_per_minute: int = Field(
        120,
        alias="NOVADEX_RATE_LIMIT_WRITE_PER_MINUTE",
        ge=1,
        le=1_000_000_000,
        description="Requests per minute of one user, by sessions and API keys, to one route that changes something.",
        examples=["120"],
    )
    rate_limit_sign_in_per_minute: int = Field(
        20,
        alias="NOVADEX_RATE_LIMIT_SIGN_IN_PER_MINUTE",
        ge=1,
        le=1_000_000_000,
        description="Requests per minute from one network address to each route that needs no session: nonces,"
        " sign-ins, refreshes.",
        examples=["20"],
    )
    trusted_proxies: NetworkList | None = Field(
        None,
        alias="NOVADEX_TRUSTED_PROXIES",
        description="Networks of the proxies before the API, separated by commas. Only they are believed when they"
        " say who is behind them (X-Forwarded-For).",
        examples=["10.0.0.0/8,fd00::/8"],
    )

    # Notifications
    smtp_url: SmtpUrl | None = Field(
        None,
        alias="NOVADEX_SMTP_URL",
        description="Mail server for notifications: smtps:// (TLS from the start), smtp+starttls://, or smtp:// in"
        " the clear for this machine. Unset: nobody gets an email.",
        examples=["smtps://novadex:password@mail.example:465"],
    )
    smtp_from: str = Field(
        "no-reply@localhost",
        alias="NOVADEX_SMTP_FROM",
        max_length=320,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
        description="Address that emails come from.",
        examples=["no-reply@novadex.example"],
    )
    webhook_allow_http: bool = Field(
        False,
        alias="NOVADEX_WEBHOOK_ALLOW_HTTP",
        description="Whether webhooks may be http:// too: their content is then readable on the way.",
        examples=["false"],
    )
    webhook_allow_private: bool = Field(
        False,
        alias="NOVADEX_WEBHOOK_ALLOW_PRIVATE",
        description="Whether webhooks may lead to private, loopback and link-local addresses: users can then reach"
        " what the worker can reach.",
        examples=["false"],
    )
    notification_timeout_s: float = Field(
        10.0,
        alias="NOVADEX_NOTIFICATION_TIMEOUT_S",
        ge=0.1,
        le=120,
        description="Seconds that an attempt to deliver a notification may take.",
        examples=["10"],
    )
    notification_attempts_max: int = Field(
        8,
        alias="NOVADEX_NOTIFICATION_ATTEMPTS_MAX",
        ge=1,
        le=100,
        description="Attempts to deliver a notification before it is given up.",
        examples=["8"],
    )
    notification_retry_s: float = Field(
        5.0,
        alias="NOVADEX_NOTIFICATION_RETRY_S",
        ge=0.001,
        le=3_600,
        description="Seconds before the second attempt; each further pause is twice as long, an hour at most.",
        examples=["5"],
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
