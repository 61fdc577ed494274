"""URLs of cache servers: one server, Sentinels, a Cluster; what is wrong is said without quoting it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from novadex.cache.servers import open_client
from novadex.errors import ConfigurationError
from novadex.settings import REDIS_SCHEMES, check_redis_url, host_of, load_settings

SECRET = "s3cret-5d1e"
GOOD = (
    "redis://localhost",
    f"redis://:{SECRET}@localhost:6379/1",
    f"rediss://app:{SECRET}@cache.example.com:6380/0",
    "valkey://localhost:6379/0/",
    "valkeys://localhost",
    "unix:///run/valkey.sock?db=2",
    "redis://localhost?db=3",
    f"redis+sentinel://app:{SECRET}@s-1:26379,s-2,[::1]:26380/novadex",
    "rediss+sentinel://s-1/novadex/3",
    "valkey+sentinel://s-1/novadex",
    "valkeys+sentinel://s-1/novadex",
    f"redis+cluster://:{SECRET}@n-1:7000,n-2:7001,n-3",
    "redis+cluster://n-1/0",
    "rediss+cluster://n-1",
    "valkey+cluster://n-1",
    "valkeys+cluster://n-1",
    "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/etc/c.pem&ssl_keyfile=/etc/k.pem",
    "valkeys+sentinel://s-1/novadex?ssl_ca_certs=/etc/ca.pem",
    "rediss+cluster://n-1?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
)
BAD = (
    (f"redis+sentinel://:{SECRET}@s-1,s-2", "it names no service"),
    (f"redis+sentinel://:{SECRET}@s-1/", "it names no service"),
    (f"redis+sentinel://:{SECRET}@s-1//0", "it names no service"),
    (f"redis+sentinel://:{SECRET}@s-1/novadex/{SECRET}", "its database is not a number"),
    (f"redis+cluster://:{SECRET}@n-1/1", "a Cluster has database 0 only"),
    (f"redis+cluster://:{SECRET}@n-1:70000", "its port is not a number"),
    (f"redis://:{SECRET}@n-1,n-2", "it names several hosts"),
    (f"redis://:{SECRET}@n-1/{SECRET}", "its database is not a number"),
    (f"redis+sentinels://:{SECRET}@s-1/novadex", "it must begin with"),
    (f"unix+cluster://:{SECRET}@s-1", "it must begin with"),
    (f"redis+sentinel://:{SECRET}/x@s-1/novadex", "not percent-encoded"),
    (
        "rediss+cluster://n-1?ssl_ca_cert=/etc/ca.pem",
        "it has ssl_ca_cert behind its [?], and may have ssl_ca_certs, ",
    ),
    ("redis+cluster://n-1?ssl_ca_certs=/etc/ca.pem", "it has ssl_ca_certs behind its [?], and may have nothing"),
    ("redis://n-1?ssl_ca_certs=/etc/ca.pem", "may have db"),
    ("rediss://n-1?ssl_cert_reqs=none", "it has ssl_cert_reqs"),
    (f"redis://n-1?{SECRET}=1", "it has an option without a name"),
    ("rediss://n-1?ssl_ca_certs=", "its ssl_ca_certs is empty"),
    ("rediss://n-1?ssl_check_hostname=no", "neither true nor false"),
    ("redis://n-1?db=x", "its db is not a number"),
)


@pytest.mark.parametrize("variable", ["REDIS_URL", "REDIS_SESSION_URL"])
@pytest.mark.parametrize("url", GOOD)
def test_settings_take_the_url(monkeypatch, variable, url):
    monkeypatch.setenv(variable, url)
    value = getattr(load_settings(), variable.lower())
    assert value.get_secret_value() == url
    assert SECRET not in repr(value)


@pytest.mark.parametrize(("url", "why"), BAD)
def test_what_is_wrong_is_said_without_the_password(monkeypatch, url, why):
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match=why) as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError, match=why) as caught:
        open_client(url)
    assert SECRET not in str(caught.value)


def test_every_scheme_has_a_client():
    ends = {"": "h:1/0", "sentinel": "h:1/service", "cluster": "h:1"}
    for scheme in REDIS_SCHEMES:
        url = "unix:///run/x.sock" if scheme == "unix" else f"{scheme}://{ends[scheme.partition('+')[2]]}"
        check_redis_url(url)
        client = open_client(url)
        assert isinstance(client, RedisCluster if scheme.endswith("cluster") else Redis), scheme


async def test_one_server_has_its_password_and_tls():
    client = open_client(f"valkeys://app:{SECRET}%40@cache:6380/4")
    assert client.connection_pool.connection_class is SSLConnection
    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache", 6380, 4)
    assert (options["username"], options["password"]) == ("app", f"{SECRET}@")


async def test_sentinels_are_asked_for_the_service_and_the_password_is_the_masters():
    client = open_client(f"rediss+sentinel://app:{SECRET}%40@s-1,[::1]:26380/novadex/3")
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.connection_class is SentinelManagedSSLConnection
    assert pool.service_name == "novadex"
    assert pool.connection_kwargs["db"] == 3
    assert pool.connection_kwargs["password"] == f"{SECRET}@"
    places = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(place["host"], place["port"]) for place in places] == [("s-1", 26379), ("::1", 26380)]
    assert all(place.get("password") is None for place in places)


async def test_a_cluster_begins_with_any_of_its_nodes():
    client = open_client(f"redis+cluster://:{SECRET}@n-1:7000,n-2")
    assert [(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()] == [
        ("n-1", 7000),
        ("n-2", 6379),
    ]
    assert client.connection_kwargs["password"] == SECRET
    await client.aclose()


def test_hosts_may_be_shown_and_the_password_not():
    assert host_of(f"redis+sentinel://:{SECRET}@s-1,s-2:26380/novadex") == "s-1,s-2:26380"
