"""A second, tiny PingOne: the few calls that an activation takes, as the vendor's pages have them, and nothing else.

It shares no code with oathbulk or its simulator, so that a misreading of those pages would have to be made twice.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from support.data.tokens import Token
from support.servers.stand_in_tenant import answer_read

ENVIRONMENT_ID = "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"
CLIENT_ID = "c0a1b2c3-0000-4000-8000-00000000c11e"
CLIENT_SECRET = "a secret: with % and + in it"
ACCESS_TOKEN = "stand-in-access-token"

TOKEN_PATH = f"/{ENVIRONMENT_ID}/as/token"
DEVICE_PATH = re.compile(rf"/v1/environments/{ENVIRONMENT_ID}/users/(?P<user>[\w-]+)/devices/(?P<device>[\w-]+)")
TENANT_PATH = re.compile(rf"/v1/environments/{ENVIRONMENT_ID}/(?P<path>[\w/-]+)(?:\?.*)?")
ACTIVATE = "application/vnd.pingidentity.device.activate+json"

# How long a held call waits to be let go, in seconds: longer than any test.
PATIENCE = 120.0


@dataclass(frozen=True)
class Post:
    """An activation that arrived, and what was answered."""

    device_id: str
    otp: str
    resync: bool | None
    arrived_at: float
    answer: str


@dataclass(frozen=True)
class Refusal:
    """An answer to give instead of acting."""

    status: int
    code: str
    detail_code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class StandIn:
    """Serves in threads of its own while it is entered. `posts` are the activations in the order of their arrival."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self.tokens = {token.device_id: token for token in tokens}
        self.posts: list[Post] = []
        # Device ids, and when each was read.
        self.reads: list[tuple[str, float]] = []
        # Answered to the next activations, one each.
        self.refusals: deque[Refusal] = deque()
        # What the environment tells otherwise than one in good order, by the path of the read; the paths that our role
        # does not permit; and all that were read.
        self.tenant: dict[str, dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        self.tenant_reads: list[str] = []
        self.knows_client = True
        # A gateway before it answers all calls to devices with a page of this status.
        self.gateway_answers: int | None = None
        self._lock = threading.Lock()
        self._gate = threading.Event()
        self._allowed: float = float("inf")
        self._arrived = 0
        self._held = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.stand_in = self  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def settings(self) -> dict[str, str]:
        """What points oathbulk here."""
        return {
            "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
            "PINGONE_CLIENT_ID": CLIENT_ID,
            "PINGONE_CLIENT_SECRET": CLIENT_SECRET,
            "PINGONE_API_URL": f"{self.url}/v1",
            # Otherwise every test would learn it first.
            "PINGONE_RESYNC_ON_FIRST_CALL": "false",
            "PINGONE_TOKEN_URL": f"{self.url}/{{env}}/as/token",
        }

    @property
    def active(self) -> list[str]:
        """The serial numbers of the devices that are ACTIVE here."""
        return [token.serial for token in self.tokens.values() if token.status == "ACTIVE"]

    @property
    def held(self) -> int:
        """Activations that are held now."""
        with self._lock:
            return self._held

    def hold_after(self, posts: int) -> None:
        """Hold all activations but the next so many: they are acted on, and answered, when they are let go, whether
        their client still waits or not."""
        with self._lock:
            self._allowed = self._arrived + posts
            self._gate.clear()

    def let_go(self) -> None:
        with self._lock:
            self._allowed = float("inf")
        self._gate.set()

    def times_posted(self) -> Counter[tuple[str, str]]:
        """How often each OTP of each device came."""
        return Counter((post.device_id, post.otp) for post in self.posts)

    def activate(self, user_id: str, device_id: str, otp: str, resync: bool | None) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of the answer, once it may be given."""
        arrived_at = time.monotonic()
        self._pass_gate()
        with self._lock:
            refusal = self.refusals.popleft() if self.refusals else None
            refusal = refusal or self._act(user_id, device_id, otp, resync)
            answer = (refusal.detail_code or refusal.code) if refusal else "ACTIVE"
            self.posts.append(Post(device_id, otp, resync, arrived_at, answer))
        if refusal is None:
            return 200, self.device(device_id), {}
        return refusal.status, _envelope(refusal), refusal.headers

    def device(self, device_id: str) -> dict[str, Any]:
        token = self.tokens[device_id]
        return {"id": device_id, "type": "OATH_TOKEN", "status": token.status, "user": {"id": token.user_id}}

    def _pass_gate(self) -> None:
        with self._lock:
            self._arrived += 1
            if self._arrived <= self._allowed:
                return
            self._held += 1
        self._gate.wait(PATIENCE)
        with self._lock:
            self._held -= 1

    def _act(self, user_id: str, device_id: str, otp: str, resync: bool | None) -> Refusal | None:
        token = self.tokens.get(device_id)
        if token is None or token.user_id != user_id:
            return Refusal(404, "NOT_FOUND")
        if token.status == "ACTIVE":
            return Refusal(400, "REQUEST_FAILED", "INVALID_VALUE")
        if otp == token.right[0] and token.is_out_of_step:
            return Refusal(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED")
        is_resync = token.is_out_of_step and otp == token.right[1] and resync is True
        if otp != token.right[0] and not is_resync:
            return Refusal(400, "INVALID_DATA", "INVALID_OTP")
        token.status = "ACTIVE"
        return None


def _envelope(refusal: Refusal) -> dict[str, Any]:
    body: dict[str, Any] = {"id": str(uuid.uuid4()), "code": refusal.code, "message": "The request failed."}
    if refusal.detail_code:
        body["details"] = [{"code": refusal.detail_code, "target": "otp", "message": "See the code."}]
    return body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out as one piece: head and body apart would wait for each other's acknowledgement.
    wbufsize = -1

    @property
    def stand_in(self) -> StandIn:
        return self.server.stand_in  # type: ignore[attr-defined,no-any-return]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == TOKEN_PATH:
            return self._grant(body)
        if (found := self._find()) is None:
            return None
        if self.headers.get("Content-Type") != ACTIVATE:
            return self._refuse(Refusal(415, "INVALID_REQUEST"))
        fields = json.loads(body)
        if not isinstance(fields.get("otp"), str) or set(fields) - {"otp", "oathResync"}:
            return self._refuse(Refusal(400, "INVALID_REQUEST"))
        answer = self.stand_in.activate(found["user"], found["device"], fields["otp"], fields.get("oathResync"))
        return self._answer(*answer)

    def do_GET(self) -> None:
        if self._is_refused():
            return None
        if (found := DEVICE_PATH.fullmatch(self.path)) is None:
            return self._tell()
        self.stand_in.reads.append((found["device"], time.monotonic()))
        if found["device"] not in self.stand_in.tokens:
            return self._refuse(Refusal(404, "NOT_FOUND"))
        return self._answer(200, self.stand_in.device(found["device"]), {})

    def log_message(self, *_: object) -> None:
        """Silent: a test's output is for its failure."""

    def handle(self) -> None:
        """A client that was killed takes no answer any more."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except ConnectionError:
            self.rfile.close()

    def _grant(self, body: bytes) -> None:
        # RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
        credentials = f"{CLIENT_ID}:a+secret%3A+with+%25+and+%2B+in+it"
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        is_known = self.stand_in.knows_client and self.headers.get("Authorization") == expected
        if not is_known or body != b"grant_type=client_credentials":
            return self._answer(401, {"error": "invalid_client"}, {})
        return self._answer(200, {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600}, {})

    def _tell(self) -> None:
        """Answer what the environment tells of itself."""
        found = TENANT_PATH.fullmatch(self.path)
        if found is None:
            return self._refuse(Refusal(404, "NOT_FOUND"))
        self.stand_in.tenant_reads.append(found["path"])
        if found["path"] in self.stand_in.forbidden:
            return self._refuse(Refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"))
        told = answer_read(found["path"], self.stand_in.tokens.values(), self.stand_in.tenant)
        return self._answer(200, told, {}) if told else self._refuse(Refusal(404, "NOT_FOUND"))

    def _find(self) -> re.Match[str] | None:
        """The user and device of the path; None where the request was refused."""
        if self._is_refused():
            return None
        return DEVICE_PATH.fullmatch(self.path) or self._refuse(Refusal(404, "NOT_FOUND"))

    def _is_refused(self) -> bool:
        """Whether the request was answered already: by a gateway, or since its access token is not ours."""
        if self.stand_in.gateway_answers is not None:
            self._send(self.stand_in.gateway_answers, b"<!doctype html><title>Not here</title>", "text/html", {})
            return True
        if self.headers.get("Authorization") != f"Bearer {ACCESS_TOKEN}":
            self._refuse(Refusal(401, "ACCESS_FAILED", "INVALID_TOKEN"))
            return True
        return False

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(refusal.status, _envelope(refusal), refusal.headers)

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, content: bytes, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": content_type, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
