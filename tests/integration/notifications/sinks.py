"""Receivers of what is sent: a mail server and a web server, real ones of a few lines, that do what a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HANG = "hang"
"""Read everything, and answer nothing."""


@dataclass
class MailSink:
    """A mail server. ``answers`` are the codes for RCPT and DATA of the next messages; past them all is taken."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    attempts: int = 0
    answers: list[str] = field(default_factory=list)
    """Such as ``rcpt 550``, ``data 451``, ``hang``."""

    def url(self, scheme: str = "smtp", account: str = "") -> str:
        return f"{scheme}://{account}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        wanted, _, code = (self.answers.pop(0) if self.answers else "").partition(" ")
        recipient = ""

        def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")

        say("220 sink")
        while line := (await reader.readline()).decode().strip():
            verb = line.partition(" ")[0].upper()
            if verb == "RCPT":
                recipient = line.partition("<")[2].rstrip(">")
                say(f"{code} no" if wanted == "rcpt" else "250 ok")
            elif verb == "DATA":
                say("354 go on")
                content = await reader.readuntil(b"\r\n.\r\n")
                if wanted == HANG:
                    await reader.read()
                    break
                if wanted == "data":
                    say(f"{code} no")
                else:
                    text = content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
                    self.messages.append(message_from_bytes(text, policy=policy.default))  # type: ignore[arg-type]
                    self.recipients.append(recipient)
                    say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                break
            else:
                say("250 sink")
            await writer.drain()
        writer.close()


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class WebSink:
    """A web server. ``answers`` are what it says to the next requests, raw or a status; past them 204."""

    scheme: str = "http"
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answers: list[bytes | int | str] = field(default_factory=list)
    on_request: Callable[[Request], None] = lambda _: None

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            request = Request(head[0].split(" ")[1], headers, body)
            self.requests.append(request)
            self.on_request(request)
            answer = self.answers.pop(0) if self.answers else 204
            if answer == HANG:
                await reader.read()
                return
            if isinstance(answer, int):
                answer = f"HTTP/1.1 {answer} As wanted\r\nContent-Length: 0\r\n\r\n".encode()
            assert isinstance(answer, bytes)
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sender hung up
        finally:
            writer.close()


@asynccontextmanager
async def listening(sink: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[Any]:
    """The sink at a port of its own."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await sink.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate of an own authority for these names: its file, and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    now = datetime.now(UTC)
    known = [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "sink.crt", folder / "sink.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
