"""Several Valkeys that are one cache: a Cluster of six nodes, and a master with a replica behind three Sentinels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.servers import PASSWORD, ValkeyServer, free_port, give_to_server_user, server_user, start_process
from tests.waiting import until

SLOTS = 16_384
PRIMARIES, REPLICAS = 3, 3
NODE_TIMEOUT_MS = 500
SERVICE = "novadex"
FORM_S_MAX = 30.0


@dataclass
class MemberServer(ValkeyServer):
    """A Valkey with further lines in its configuration, which it may rewrite."""

    lines: Sequence[str] = ()
    sentinel: bool = False
    announced_port: int = field(default_factory=free_port)
    """Of the Cluster's own connections."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.sentinel else super().url

    def start(self) -> MemberServer:
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        give_to_server_user(self.folder)
        configuration = self.folder / "valkey.conf"
        if not configuration.exists():
            configuration.write_text(
                "\n".join((f"port {self.port}", "bind 127.0.0.1", *self._own(), *self.lines, ""))
            )
            give_to_server_user(configuration)
        command = [str(self.binary), str(configuration), *(["--sentinel"] if self.sentinel else [])]
        self.process = start_process(command, log=self.log, **server_user())
        self.wait_ready()
        return self

    def _own(self) -> Sequence[str]:
        folder = f"dir {self.folder}"
        if self.sentinel:
            return (folder, "protected-mode no")
        return (
            folder,
            f"requirepass {PASSWORD}",
            f"masterauth {PASSWORD}",
            'save ""',
            "appendonly no",
            "repl-diskless-sync-delay 0",
        )

    def call(self, *command: Any) -> Any:
        with redis.Redis.from_url(self.url, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*command)

    @property
    def running(self) -> bool:
        return self.process is not None


class ClusterOfSix:
    """Three primaries, each with a replica."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.nodes: list[MemberServer] = []
        for number in range(PRIMARIES + REPLICAS):
            node = MemberServer(folder / f"node-{number}", binary)
            node.lines = (
                "cluster-enabled yes",
                f"cluster-port {node.announced_port}",
                f"cluster-node-timeout {NODE_TIMEOUT_MS}",
                "cluster-replica-validity-factor 0",
                "cluster-config-file nodes.conf",
            )
            self.nodes.append(node)

    @property
    def url(self) -> str:
        return f"redis+cluster://:{PASSWORD}@" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    async def start(self) -> None:
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            end = SLOTS * (number + 1) // PRIMARIES - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // PRIMARIES, end)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            first.call("CLUSTER", "MEET", "127.0.0.1", node.port, node.announced_port)
        await until(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes), FORM_S_MAX)
        for number, node in enumerate(self.nodes[PRIMARIES:]):
            node.call("CLUSTER", "REPLICATE", self.nodes[number].call("CLUSTER", "MYID"))
        await until(self.whole, FORM_S_MAX)

    def _known(self, node: MemberServer) -> int:
        return sum(1 for line in node.call("CLUSTER", "NODES").splitlines() if "handshake" not in line)

    def whole(self) -> bool:
        """Every slot has a primary that runs, every node knows it, and every replica follows."""
        return len(self.primaries()) == PRIMARIES and all(self._serves(node) for node in self.nodes if node.running)

    def _serves(self, node: MemberServer) -> bool:
        about = node.call("INFO", "replication")
        return "cluster_state:ok" in node.call("CLUSTER", "INFO") and about.get("master_link_status", "up") == "up"

    def primaries(self) -> list[MemberServer]:
        return [n for n in self.nodes if n.running and n.call("INFO", "replication")["role"] == "master"]

    async def stop(self) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.kill)


class SentinelGroup:
    """A master, a replica and three Sentinels, two of which have to agree."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.servers = [MemberServer(folder / f"server-{number}", binary) for number in range(2)]
        master, replica = self.servers
        replica.lines = (f"replicaof 127.0.0.1 {master.port}",)
        watching = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2",
            f"sentinel auth-pass {SERVICE} {PASSWORD}",
            f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}",
            f"sentinel failover-timeout {SERVICE} 2000",
        )
        self.sentinels = [
            MemberServer(folder / f"sentinel-{number}", binary, lines=watching, sentinel=True) for number in range(3)
        ]

    @property
    def url(self) -> str:
        sentinels = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{sentinels}/{SERVICE}/0"

    async def start(self) -> None:
        for server in self.servers:
            server.start()
        await until(lambda: self.servers[1].call("INFO", "replication").get("master_link_status") == "up", FORM_S_MAX)
        for sentinel in self.sentinels:
            sentinel.start()
        await until(self.watched, FORM_S_MAX)

    def watched(self) -> bool:
        """Every Sentinel sees the master, and knows the replica and the other two."""
        views = [sentinel.call("SENTINEL", "MASTER", SERVICE) for sentinel in self.sentinels]
        return all((v["flags"], v["num-slaves"], v["num-other-sentinels"]) == ("master", "1", "2") for v in views)

    def master_port(self) -> int:
        return int(self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    async def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            await asyncio.to_thread(server.kill)
