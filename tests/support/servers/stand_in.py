"""A second, tiny PingOne: the calls that an activation takes (`StandIn`), and those of the whole way at a tenant of its
own, where answers get lost and the inventory may be another application's (`WholeWayStandIn`).

It shares no code with oathbulk or its simulator: a misreading of the vendor's pages would have to be made twice.
"""

import base64
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus, urlsplit

from support.data.tokens import Token
from support.servers.stand_in_box import Answer, BoxTenant, refuse

ENVIRONMENT_ID = "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"
CLIENT_ID = "c0a1b2c3-0000-4000-8000-00000000c11e"
CLIENT_SECRET = "a secret: with % and + in it"

TOKEN_PATH = f"/{ENVIRONMENT_ID}/as/token"
BELOW = f"/v1/environments/{ENVIRONMENT_ID}/"
ACTIVATE = "application/vnd.pingidentity.device.activate+json"
IMPORT = "application/vnd.pingidentity.job.oathtokens.create+json"

# How long a held call waits to be let go, in seconds: longer than any test.
PATIENCE = 120.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out as one piece: head and body apart would wait for each other's acknowledgment.
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Silent: a test's output is for its failure."""

    def handle(self) -> None:
        """A client that was killed takes no answer any more."""
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().finish()

    def do_GET(self) -> None:
        service: Any = self.server.stand_in  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        client = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.path == TOKEN_PATH:
            return self._answer(*self._grant(service, body))
        if service.gateway_answers is not None:
            return self._answer(service.gateway_answers, b"<!doctype html><title>Not here</title>")
        if client not in service.secrets:
            return self._answer(*refuse(401, "ACCESS_FAILED", "INVALID_TOKEN"))
        answer = service.respond(self, client, body)
        return self._answer(*answer) if answer else self._hang_up()

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _grant(self, service: Any, body: bytes) -> Answer:
        scheme, _, encoded = (self.headers.get("Authorization") or "").partition(" ")
        # RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
        client, _, secret = map(unquote_plus, base64.b64decode(encoded).decode().partition(":"))
        is_known = service.knows_client and scheme == "Basic" and service.secrets.get(client) == secret
        if not is_known or body != b"grant_type=client_credentials":
            return 401, {"error": "invalid_client"}
        # The access token says whose it is.
        return 200, {"access_token": client, "token_type": "Bearer", "expires_in": 3600}

    def _answer(self, status: int, body: Any, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        """A body is JSON, or the bytes of a page."""
        kind = "text/html" if isinstance(body, bytes) else "application/json"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        """Reset the connection: close it without the farewell of TCP."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class _Service:
    """Serves in threads of its own while it is entered. `secrets`: those of the applications that it knows."""

    secrets: Mapping[str, str]
    knows_client = True
    # A gateway before it answers all calls but those for access tokens with a page of this status.
    gateway_answers: int | None = None

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.stand_in = self  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
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
            "PINGONE_CLIENT_SECRET": self.secrets[CLIENT_ID],
            "PINGONE_API_URL": f"{self.url}/v1",
            # Otherwise every test would learn it first.
            "PINGONE_RESYNC_ON_FIRST_CALL": "false",
            "PINGONE_TOKEN_URL": f"{self.url}/{{env}}/as/token",
        }


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


class StandIn(_Service):
    """Serves a few calls of an activation. `posts` are the activations in the order of their arrival."""

    secrets: Mapping[str, str] = MappingProxyType({CLIENT_ID: CLIENT_SECRET})

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
        self._lock = threading.Lock()
        self._gate = threading.Event()
        self._allowed: float = float("inf")
        self._arrived = 0
        self._held = 0
        super().__init__()

    def __exit__(self, *_: object) -> None:
        self.let_go()
        super().__exit__()

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

    def respond(self, call: _Handler, _: str, body: bytes) -> Answer:
        path = urlsplit(call.path).path.removeprefix(BELOW)
        match call.command, path.split("/"):
            case "POST", ["users", user_id, "devices", device_id]:
                fields = json.loads(body)
                if call.headers.get("Content-Type") != ACTIVATE:
                    return refuse(415, "INVALID_REQUEST")
                if not isinstance(fields.get("otp"), str) or set(fields) - {"otp", "oathResync"}:
                    return refuse(400, "INVALID_REQUEST")
                return self._activate(user_id, device_id, fields["otp"], fields.get("oathResync"))
            case "GET", ["users", _, "devices", device_id]:
                self.reads.append((device_id, time.monotonic()))
                return (200, self.device(device_id)) if device_id in self.tokens else refuse(404, "NOT_FOUND")
            case "GET", _:
                self.tenant_reads.append(path)
                if path in self.forbidden:
                    return refuse(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
                told = answer_read(path, self.tokens.values(), self.tenant)
                return (200, told) if told else refuse(404, "NOT_FOUND")
        return refuse(404, "NOT_FOUND")

    def _activate(self, user_id: str, device_id: str, otp: str, resync: bool | None) -> Answer:
        """The answer, once it may be given."""
        arrived_at = time.monotonic()
        self._pass_gate()
        with self._lock:
            refusal = self.refusals.popleft() if self.refusals else None
            refusal = refusal or self._act(user_id, device_id, otp, resync)
            said = (refusal.detail_code or refusal.code) if refusal else "ACTIVE"
            self.posts.append(Post(device_id, otp, resync, arrived_at, said))
        if refusal is None:
            return 200, self.device(device_id)
        return *refuse(refusal.status, refusal.code, refusal.detail_code, "otp"), refusal.headers

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


def answer_read(path: str, tokens: Iterable[Token], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body of the answer to this path below the environment; None if there is no such thing. `settings` are changes
    of the bodies, by their paths."""
    changed = settings.get(path, {})
    match path.split("/"):
        case ["capabilities"]:
            return {"canUseOATHToken": True} | changed
        case ["mfaSettings"]:
            return {"pairing": {"maxAllowedDevices": 5}} | changed
        case ["deviceAuthenticationPolicies"]:
            failure = {"count": 7, "coolDown": {"duration": 2, "timeUnit": "MINUTES"}}
            token = {"enabled": True, "otp": {"failure": failure}}
            policy = {"id": "policy-1", "name": "Office", "default": True, "oathToken": token}
            return _list("deviceAuthenticationPolicies", [policy | {"newDeviceNotification": "NONE"} | changed])
        case ["oathTokens"]:
            return _list("oathTokens", [_token(token) for token in tokens])
        case ["users", user, "devices"]:
            mine = [_device(token) | changed for token in tokens if token.user_id == user]
            return _list("devices", mine) if mine else None
    return None


def _list(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_links": {}, "_embedded": {name: items}, "size": len(items)}


def _token(token: Token) -> dict[str, Any]:
    kind = {"type": "HOTP", "otpLength": 8, "hashAlgorithm": "HmacSHA1"}
    devices = [{"id": token.device_id, "user": {"id": token.user_id}}]
    return {"id": f"token-{token.serial}", "serialNumber": token.serial, "devices": devices} | kind


def _device(token: Token) -> dict[str, Any]:
    return {"id": token.device_id, "type": "OATH_TOKEN", "status": token.status}


IMPORTER = "c0a1b2c3-0000-4000-8000-0000000001b0"
# One comparison of a filter.
EQUATION = re.compile(r'\w+ eq "((?:[^"\\]|\\.)*)"')


class WholeWayStandIn(_Service):
    """Serves a tenant. The answer to the first call of each kind in `loses`
    gets lost, the next one of that kind arrives, and of those after it one of every `loses_every` calls is lost, after
    it was done. `is_inventory_apart`: only the application that imports may touch the inventory."""

    secrets: Mapping[str, str] = MappingProxyType({CLIENT_ID: "worker-secret", IMPORTER: "importer-secret"})

    def __init__(
        self, tenant: BoxTenant, *, loses: Collection[str], loses_every: int, is_inventory_apart: bool = False
    ) -> None:
        self.tenant = tenant
        self.is_inventory_apart = is_inventory_apart
        self.lost: list[str] = []
        self._answered: set[str] = set()
        self._loses, self._loses_every = loses, loses_every
        self._calls = 0
        self._lock = threading.Lock()
        super().__init__()

    @property
    def settings(self) -> dict[str, str]:
        apart = {"PINGONE_IMPORT_CLIENT_ID": IMPORTER, "PINGONE_IMPORT_CLIENT_SECRET": self.secrets[IMPORTER]}
        return super().settings | (apart if self.is_inventory_apart else {})

    def _loses_this(self, kind: str) -> bool:
        """Count a call, and say whether its answer gets lost."""
        self._calls += 1
        is_first = kind in self._loses and kind not in self.lost
        is_lost = is_first or (kind in self._answered and self._calls % self._loses_every == 0)
        if is_lost:
            self.lost.append(kind)
        else:
            self._answered.add(kind)
        return is_lost

    def respond(self, call: _Handler, client: str, body: bytes) -> Answer | None:
        with self._lock:
            kind, answer = self._act(call, client, body)
            return None if self._loses_this(kind) else answer

    def _act(self, call: _Handler, client: str, body: bytes) -> tuple[str, Answer]:
        """Do what is asked for: the kind of call, and its answer."""
        parts, tenant = urlsplit(call.path), self.tenant
        path = parts.path.removeprefix(BELOW).split("/")
        if call.command == "DELETE":
            return "remove", tenant.refuse_to_remove(call.path)
        if path[0] in ("oathTokens", "oathJobs") and self.is_inventory_apart and client != IMPORTER:
            return "inventory", refuse(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
        if call.command == "POST":
            return self._act_on_post(path, call.headers.get("Content-Type"), json.loads(body))
        query = parse_qs(parts.query)
        match path:
            case ["users"]:
                return "users", tenant.find_users(_read_filter(query) or [])
            case ["users", user, "devices"]:
                return "devices", tenant.list_devices(user)
            case ["users", user, "devices", device]:
                return "device", tenant.read_device(user, device)
            case ["oathTokens"]:
                return "tokens", tenant.list_tokens(_read_filter(query), with_devices="expand" in query)
            case ["oathTokens", token]:
                return "token", tenant.read_token(token)
            case ["oathJobs", job]:
                return "job", tenant.read_job(job)
        told = answer_read(path[0], (), {})
        return path[0], (200, told) if told else refuse(404, "NOT_FOUND")

    def _act_on_post(self, path: list[str], media_type: str | None, fields: dict[str, Any]) -> tuple[str, Answer]:
        match path, media_type:
            case ["oathJobs"], media if media == IMPORT and fields["type"] == "CREATE_OATH_TOKENS":
                return "import", self.tenant.start_import(fields["tokens"])
            case ["users", user, "devices"], "application/json" if fields["type"] == "OATH_TOKEN":
                return "pair", self.tenant.pair(user, fields["serialNumber"])
            case ["users", user, "devices", device], media if media == ACTIVATE:
                resync = fields.get("oathResync") is True
                return "activate", self.tenant.activate(user, device, fields["otp"], resync=resync)
        return "unknown", refuse(415, "INVALID_REQUEST")


def _read_filter(query: dict[str, list[str]]) -> list[str] | None:
    """The values that a filter asks for; None without one."""
    if "filter" not in query:
        return None
    return [re.sub(r"\\(.)", r"\1", value) for value in EQUATION.findall(query["filter"][0])]
