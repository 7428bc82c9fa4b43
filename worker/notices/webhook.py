"""Posts a notice to the webhook, signed, with the same proxies and certificate authorities as calls to PingOne."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from worker.config.settings import ConfigError
from worker.pingone.errors import PingOneError
from worker.pingone.transport import Transport
from worker.pingone.wire import Request, open_envelope

# Seconds for one post.
DEADLINE = 10.0
# Bytes of an answer that are read; nothing is made of it.
LARGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a post. `status`: of HTTP, None without an answer; `error`: what went wrong, in a short line, None
    if the notice was taken; `retry_after`: seconds for which the webhook asked."""

    status: int | None
    error: str | None = None
    retry_after: float | None = None


class Webhook:
    """The URL that is told, and the secret by which the receiver knows us. `clock` reads Unix time."""

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr | None,
        *,
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._secret = secret
        self._deadline = deadline
        self._clock = clock

    def post(self, notice_id: int, facts: dict[str, Any]) -> Reply:
        """Post a notice, and say what came of it. A redirect is not followed. Raises nothing that a network, a server
        or a setting may cause."""
        body = json.dumps(facts | {"id": notice_id}, ensure_ascii=False).encode()
        # The server may close the connection once it has answered, so that the next post needs one of its own.
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "oathbulk",
            "Connection": "close",
            "X-Oathbulk-Notice": str(notice_id),
        }
        if self._secret is not None:
            headers["X-Oathbulk-Signature"] = sign(self._secret, int(self._clock()), body)
        try:
            return self._exchange(Request("POST", self._url.get_secret_value(), headers, body))
        except ConfigError:
            return Reply(None, "the proxy or the certificates of this process cannot be used")
        except PingOneError as error:
            # The whole answer did not come, or was too long; its status came, and tells whether the notice was taken.
            status = error.answer.status
            is_taken = status is not None and 200 <= status < 300
            return Reply(status, None if is_taken else type(error).__name__ + _describe(error))

    def _exchange(self, request: Request) -> Reply:
        with closing(Transport(request.url, deadline=self._deadline, largest_body=LARGEST_ANSWER)) as transport:
            status, headers, _ = transport.exchange(request)
        if 200 <= status < 300:
            return Reply(status)
        return Reply(status, f"HTTP {status}", open_envelope(status, headers, b"").retry_after)


def sign(secret: SecretStr, at: int, body: bytes) -> str:
    """Sign a body that is sent at this Unix time: HMAC-SHA256 over the time, a full stop and the body."""
    key, content = secret.get_secret_value().encode(), f"{at}.".encode() + body
    return f"t={at},v1={hmac.new(key, content, hashlib.sha256).hexdigest()}"


def redact_url(url: SecretStr) -> str:
    """The URL's scheme and host, which may be printed; the rest of it may be a secret."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url.get_secret_value()))


def _describe(error: PingOneError) -> str:
    """What is known of a failure without an answer: the name of the failure, such as ConnectError."""
    return f" ({error.answer.message.partition(':')[0]})" if error.answer.message else ""
