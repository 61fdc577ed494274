"""The channel webhook: one signed POST an attempt. No redirects, no proxy, nothing of the answer but its status."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from novadex.errors import ValidationError
from novadex.notifications.names import NameLookUp
from novadex.notifications.outcomes import DeliveryFailedError
from novadex.notifications.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_webhook
from novadex.notifications.targets import Target, parse_target, resolve

if TYPE_CHECKING:
    from novadex.settings import Settings

HEAD_BYTES_MAX = 16_384
INTERIM_ANSWERS_MAX = 5
"""Answers of 100 to 199 before the one that counts."""
GONE = 410
USER_AGENT = "NovaDex-Webhook/1"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")


class WebhookSender:
    """Sends to the webhooks of users."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._allow_http = settings.webhook_allow_http
        self._allow_private = settings.webhook_allow_private
        self._timeout_s = settings.notification_timeout_s
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._names = NameLookUp()

    def close(self) -> None:
        """Let go of threads."""
        self._names.close()

    async def send(self, url: str, secret: str, id: str, document: Mapping[str, Any]) -> None:
        """One attempt. Raises ``DeliveryFailedError`` for everything but an answer of 200 to 299 in time."""
        try:
            target = parse_target(url, allow_http=self._allow_http, allow_private=self._allow_private)
        except ValidationError as error:
            raise DeliveryFailedError(error.message, permanent=True) from None
        body = msgspec.json.encode(document)
        timestamp_s = int(self._clock())
        headers = {
            "Host": target.authority,
            "User-Agent": USER_AGENT,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Accept": "*/*",
            "Connection": "close",
            ID_HEADER: id,
            TIMESTAMP_HEADER: str(timestamp_s),
            SIGNATURE_HEADER: sign_webhook(secret, id, timestamp_s, body),
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._exchange(target, request)
        except TimeoutError:
            raise DeliveryFailedError(f"no answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError:
            raise DeliveryFailedError("its certificate is not valid") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise DeliveryFailedError(f"the connection failed: {type(error).__name__}") from None
        except (asyncio.LimitOverrunError, ValueError):
            raise DeliveryFailedError("its answer is no HTTP") from None
        if not 200 <= status < 300:
            redirected = " (redirects are not followed)" if 300 <= status < 400 else ""
            raise DeliveryFailedError(f"it answered {status}{redirected}", permanent=status == GONE)

    async def _exchange(self, target: Target, request: bytes) -> int:
        refusal: OSError | None = None
        for address in await resolve(target, self._names, allow_private=self._allow_private):
            try:
                reader, writer = await self._connect(target, address)
            except ssl.SSLError:
                raise
            except OSError as error:
                refusal = error
                continue
            try:
                writer.write(request)
                await writer.drain()
                return await _read_status(reader)
            finally:
                # Whatever else comes is not wanted: neither waited for nor read.
                writer.transport.abort()
        raise refusal or OSError("no address")

    async def _connect(self, target: Target, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if target.scheme == "http":
            return await asyncio.open_connection(address, target.port, limit=HEAD_BYTES_MAX)
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return await asyncio.open_connection(
            address, target.port, limit=HEAD_BYTES_MAX, ssl=self._tls, server_hostname=target.host
        )


async def _read_status(reader: asyncio.StreamReader) -> int:
    for _ in range(INTERIM_ANSWERS_MAX):
        head = await reader.readuntil(b"\r\n\r\n")
        match = _STATUS.match(head)
        if match is None:
            raise ValueError("no status line")
        status = int(match[1])
        if status >= 200:
            return status
    raise ValueError("too many interim answers")
