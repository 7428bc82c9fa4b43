"""The whole way over HTTP at a tenant of its own: a third PingOne, in which answers get lost on demand, and whose
inventory may be another application's. It shares no code with oathbulk or its simulator.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
from collections.abc import Collection
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.servers.stand_in_box import Answer, BoxTenant

ENVIRONMENT_ID = "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"
WORKER, IMPORTER = "c0a1b2c3-0000-4000-8000-00000000c11e", "c0a1b2c3-0000-4000-8000-0000000001b0"
SECRETS = {WORKER: "worker-secret", IMPORTER: "importer-secret"}
BELOW = f"/v1/environments/{ENVIRONMENT_ID}/"
ACTIVATE = "application/vnd.pingidentity.device.activate+json"
IMPORT = "application/vnd.pingidentity.job.oathtokens.create+json"
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


class WholeWayStandIn:
    """Serves a tenant in threads of its own while it is entered. The answer to the first call of each kind in `loses`
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
    def settings(self) -> dict[str, str]:
        """What points oathbulk here."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        settings = {
            "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
            "PINGONE_CLIENT_ID": WORKER,
            "PINGONE_CLIENT_SECRET": SECRETS[WORKER],
            "PINGONE_API_URL": f"{url}/v1",
            "PINGONE_TOKEN_URL": f"{url}/{{env}}/as/token",
            # Otherwise every test would learn it first.
            "PINGONE_RESYNC_ON_FIRST_CALL": "false",
        }
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out as one piece: head and body apart would wait for each other's acknowledgement.
    wbufsize = -1

    @property
    def stand_in(self) -> WholeWayStandIn:
        return self.server.stand_in  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_DELETE(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_: object) -> None:
        """Silent: a test's output is for its failure."""

    def handle(self) -> None:
        """A client that was killed takes no answer any more."""
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().finish()

    def _serve(self, body: bytes) -> None:
        if self.path.endswith("/as/token"):
            return self._send(self._grant())
        client = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if client not in SECRETS:
            return self._send((401, {"id": "1", "code": "ACCESS_FAILED", "message": "No."}))
        with self.stand_in.lock:
            kind, answer = self._answer(client, body)
            is_lost = self.stand_in.loses_this(kind)
        return self._hang_up() if is_lost else self._send(answer)

    def _grant(self) -> Answer:
        scheme, _, encoded = (self.headers.get("Authorization") or "").partition(" ")
        client, _, secret = base64.b64decode(encoded).decode().partition(":")
        if scheme != "Basic" or SECRETS.get(client) != secret:
            return 401, {"error": "invalid_client"}
        # The access token says whose it is.
        return 200, {"access_token": client, "token_type": "Bearer", "expires_in": 3600}

    def _answer(self, client: str, body: bytes) -> tuple[str, Answer]:
        """Do what is asked for: the kind of call, and its answer."""
        parts, tenant = urlsplit(self.path), self.stand_in.tenant
        path = parts.path.removeprefix(BELOW).split("/")
        is_inventory = path[0] in ("oathTokens", "oathJobs")
        if self.command == "DELETE":
            return "remove", tenant.refuse_to_remove(self.path)
        if is_inventory and self.stand_in.is_inventory_apart and client != IMPORTER:
            return "inventory", (403, NOT_PERMITTED)
        if self.command == "POST":
            return self._answer_post(path, json.loads(body))
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

    def _answer_post(self, path: list[str], fields: dict[str, Any]) -> tuple[str, Answer]:
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

    def _send(self, answer: Answer) -> None:
        status, content = answer[0], json.dumps(answer[1]).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

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
