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
import uuid
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.data.tokens import Token
from support.servers.stand_in_box import Answer, BoxTenant

ENVIRONMENT_ID = "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"
CLIENT_ID = "c0a1b2c3-0000-4000-8000-00000000c11e"
CLIENT_SECRET = "a secret: with % and + in it"
ACCESS_TOKEN = "stand-in-access-token"

TOKEN_PATH = f"/{ENVIRONMENT_ID}/as/token"
BELOW = f"/v1/environments/{ENVIRONMENT_ID}/"
DEVICE_PATH = re.compile(rf"{BELOW}users/(?P<user>[\w-]+)/devices/(?P<device>[\w-]+)")
TENANT_PATH = re.compile(rf"{BELOW}(?P<path>[\w/-]+)(?:\?.*)?")
ACTIVATE = "application/vnd.pingidentity.device.activate+json"
IMPORT = "application/vnd.pingidentity.job.oathtokens.create+json"

# How long a held call waits to be let go, in seconds: longer than any test.
PATIENCE = 120.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out as one piece: head and body apart would wait for each other's acknowledgement.
    wbufsize = -1

    @property
    def stand_in(self) -> Any:
        return self.server.stand_in  # type: ignore[attr-defined]

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, *_: object) -> None:
        """Silent: a test's output is for its failure."""

    def handle(self) -> None:
        """A client that was killed takes no answer any more."""
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().finish()

    def answer(self, status: int, body: Any, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Service:
    """Serves in threads of its own while it is entered."""

    def __init__(self, handler: type[_Handler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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

    def make_settings(self, secret: str) -> dict[str, str]:
        """What points oathbulk here."""
        return {
            "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
            "PINGONE_CLIENT_ID": CLIENT_ID,
            "PINGONE_CLIENT_SECRET": secret,
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
        super().__init__(_ActivationHandler)

    def __exit__(self, *_: object) -> None:
        self.let_go()
        super().__exit__()

    @property
    def settings(self) -> dict[str, str]:
        return self.make_settings(CLIENT_SECRET)

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


class _ActivationHandler(_Handler):
    def do_POST(self) -> None:
        body = self.read_body()
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
        return self.answer(*answer)

    def do_GET(self) -> None:
        if self._is_refused():
            return None
        if (found := DEVICE_PATH.fullmatch(self.path)) is None:
            return self._tell()
        self.stand_in.reads.append((found["device"], time.monotonic()))
        if found["device"] not in self.stand_in.tokens:
            return self._refuse(Refusal(404, "NOT_FOUND"))
        return self.answer(200, self.stand_in.device(found["device"]))

    def _grant(self, body: bytes) -> None:
        # RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
        credentials = f"{CLIENT_ID}:a+secret%3A+with+%25+and+%2B+in+it"
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        is_known = self.stand_in.knows_client and self.headers.get("Authorization") == expected
        if not is_known or body != b"grant_type=client_credentials":
            return self.answer(401, {"error": "invalid_client"})
        return self.answer(200, {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600})

    def _tell(self) -> None:
        """Answer what the environment tells of itself."""
        found = TENANT_PATH.fullmatch(self.path)
        if found is None:
            return self._refuse(Refusal(404, "NOT_FOUND"))
        self.stand_in.tenant_reads.append(found["path"])
        if found["path"] in self.stand_in.forbidden:
            return self._refuse(Refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"))
        told = answer_read(found["path"], self.stand_in.tokens.values(), self.stand_in.tenant)
        return self.answer(200, told) if told else self._refuse(Refusal(404, "NOT_FOUND"))

    def _find(self) -> re.Match[str] | None:
        """The user and device of the path; None where the request was refused."""
        if self._is_refused():
            return None
        return DEVICE_PATH.fullmatch(self.path) or self._refuse(Refusal(404, "NOT_FOUND"))

    def _is_refused(self) -> bool:
        """Whether the request was answered already: by a gateway, or since its access token is not ours."""
        if self.stand_in.gateway_answers is not None:
            self.send(
                self.stand_in.gateway_answers,
                b"<!doctype html><title>Not here</title>",
                {"Content-Type": "text/html"},
            )
            return True
        if self.headers.get("Authorization") != f"Bearer {ACCESS_TOKEN}":
            self._refuse(Refusal(401, "ACCESS_FAILED", "INVALID_TOKEN"))
            return True
        return False

    def _refuse(self, refusal: Refusal) -> None:
        self.answer(refusal.status, _envelope(refusal), refusal.headers)


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
SECRETS = {CLIENT_ID: "worker-secret", IMPORTER: "importer-secret"}
# One comparison of a filter.
EQUATION = re.compile(r'\w+ eq "((?:[^"\\]|\\.)*)"')
NOT_PERMITTED = {
    "id": "1",
    "code": "ACCESS_FAILED",
    "message": "No.",
    "details": [{"code": "INSUFFICIENT_PERMISSIONS"}],
}
POLICY = {"id": "policy-1", "name": "Office", "default": True, "newDeviceNotification": "NONE"}
POLICY |= {"oathToken": {"enabled": True, "otp": {"failure": {"count": 7}}}}


class WholeWayStandIn(_Service):
    """Serves a tenant. The answer to the first call of each kind in `loses`
    gets lost, the next one of that kind arrives, and of those after it one of every `loses_every` calls is lost, after
    it was done. `is_inventory_apart`: only the application that imports may touch the inventory."""

    def __init__(
        self, tenant: BoxTenant, *, loses: Collection[str], loses_every: int, is_inventory_apart: bool = False
    ) -> None:
        self.tenant = tenant
        self.is_inventory_apart = is_inventory_apart
        self.lost: list[str] = []
        self._answered: set[str] = set()
        self._loses, self._loses_every = loses, loses_every
        self._calls = 0
        self.lock = threading.Lock()
        super().__init__(_WholeWayHandler)

    @property
    def settings(self) -> dict[str, str]:
        settings = self.make_settings(SECRETS[CLIENT_ID])
        if self.is_inventory_apart:
            settings |= {"PINGONE_IMPORT_CLIENT_ID": IMPORTER, "PINGONE_IMPORT_CLIENT_SECRET": SECRETS[IMPORTER]}
        return settings

    def loses_this(self, kind: str) -> bool:
        """Count a call, and say whether its answer gets lost."""
        self._calls += 1
        is_first = kind in self._loses and kind not in self.lost
        is_lost = is_first or (kind in self._answered and self._calls % self._loses_every == 0)
        if is_lost:
            self.lost.append(kind)
        else:
            self._answered.add(kind)
        return is_lost


class _WholeWayHandler(_Handler):
    def do_GET(self) -> None:
        self._serve(b"")

    def do_DELETE(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.read_body())

    def _serve(self, body: bytes) -> None:
        if self.path.endswith("/as/token"):
            return self.answer(*self._grant())
        client = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if client not in SECRETS:
            return self.answer(401, {"id": "1", "code": "ACCESS_FAILED", "message": "No."})
        with self.stand_in.lock:
            kind, answer = self._act(client, body)
            is_lost = self.stand_in.loses_this(kind)
        return self._hang_up() if is_lost else self.answer(*answer)

    def _grant(self) -> Answer:
        scheme, _, encoded = (self.headers.get("Authorization") or "").partition(" ")
        client, _, secret = base64.b64decode(encoded).decode().partition(":")
        if scheme != "Basic" or SECRETS.get(client) != secret:
            return 401, {"error": "invalid_client"}
        # The access token says whose it is.
        return 200, {"access_token": client, "token_type": "Bearer", "expires_in": 3600}

    def _act(self, client: str, body: bytes) -> tuple[str, Answer]:
        """Do what is asked for: the kind of call, and its answer."""
        parts, tenant = urlsplit(self.path), self.stand_in.tenant
        path = parts.path.removeprefix(BELOW).split("/")
        is_inventory = path[0] in ("oathTokens", "oathJobs")
        if self.command == "DELETE":
            return "remove", tenant.refuse_to_remove(self.path)
        if is_inventory and self.stand_in.is_inventory_apart and client != IMPORTER:
            return "inventory", (403, NOT_PERMITTED)
        if self.command == "POST":
            return self._act_on_post(path, json.loads(body))
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
            case ["deviceAuthenticationPolicies"]:
                return "policies", (200, {"_embedded": {"deviceAuthenticationPolicies": [POLICY]}})
            case ["mfaSettings"]:
                return "settings", (200, {"pairing": {"maxAllowedDevices": 5}})
            case ["capabilities"]:
                return "capabilities", (200, {"canUseOATHToken": True})
        return "unknown", (404, {"id": "1", "code": "NOT_FOUND", "message": "No."})

    def _act_on_post(self, path: list[str], fields: dict[str, Any]) -> tuple[str, Answer]:
        tenant, media_type = self.stand_in.tenant, self.headers.get("Content-Type")
        match path, media_type:
            case ["oathJobs"], media if media == IMPORT and fields["type"] == "CREATE_OATH_TOKENS":
                return "import", tenant.start_import(fields["tokens"])
            case ["users", user, "devices"], "application/json" if fields["type"] == "OATH_TOKEN":
                return "pair", tenant.pair(user, fields["serialNumber"])
            case ["users", user, "devices", device], media if media == ACTIVATE:
                resync = fields.get("oathResync") is True
                return "activate", tenant.activate(user, device, fields["otp"], resync=resync)
        return "unknown", (415, {"id": "1", "code": "INVALID_REQUEST", "message": "No."})

    def _hang_up(self) -> None:
        """Reset the connection: close it without the farewell of TCP."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def _read_filter(query: dict[str, list[str]]) -> list[str] | None:
    """The values that a filter asks for; None without one."""
    if "filter" not in query:
        return None
    return [re.sub(r"\\(.)", r"\1", value) for value in EQUATION.findall(query["filter"][0])]
