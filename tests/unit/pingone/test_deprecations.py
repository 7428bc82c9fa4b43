"""A deprecated call is logged once for its kind, by a name without ids."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from worker.pingone import client
from worker.pingone.client import Call, name_call, report_deprecation
from worker.pingone.wire import Request, open_envelope

BASE = "https://api.pingone.eu/v1/environments/5a5b7c9d"
DEPRECATED = {"Api-Deprecation-Date": "2027-01-01", "api-deprecation-message": "Use\x1b[2J /v2 instead"}
ANSWER = open_envelope(200, DEPRECATED, b"")
SOON, FINE = (open_envelope(200, {name: "soon"}, b"") for name in ("api-deprecation-date", "Date"))


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_DEPRECATED", set())


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("DELETE", "/users/6f1d/devices/0f0b", "DELETE /users/{id}/devices/{id}"),
        ("GET", "/users/6f1d/devices", "GET /users/{id}/devices"),
        ("GET", "/oathTokens?filter=serialNumber%20eq%20%222308%22", "GET /oathTokens"),
        ("POST", "/users/6f1d/oathTokens/7a1d", "POST /users/{id}/oathTokens/{id}"),
        ("GET", "", "GET /"),
    ],
)
def test_a_call_is_named_without_ids(method: str, path: str, name: str) -> None:
    assert name_call(Request(method, BASE + path, {})) == name


def test_each_kind_of_call_is_logged_once() -> None:
    with capture_logs() as lines:
        for user in ("6f1d", "7a1d"):
            report_deprecation(Request("GET", f"{BASE}/users/{user}/devices", {}), ANSWER)
            report_deprecation(Request("POST", f"{BASE}/users/{user}/devices", {}), SOON)
            report_deprecation(Request("GET", f"{BASE}/oathTokens", {}), FINE)
    told = [(line["event"], line["call"], line["date"], line["message"]) for line in lines]
    assert told == [
        ("pingone_call_deprecated", "GET /users/{id}/devices", "2027-01-01", "Use [2J /v2 instead"),
        ("pingone_call_deprecated", "POST /users/{id}/devices", "soon", None),
    ]


def test_all_clients_of_a_process_log_a_deprecation_once(connect_clients: Any, http: Any) -> None:
    body = b'{"_embedded": {"devices": []}}'
    clients, environment, _ = connect_clients(http(200, body, Api_Deprecation_Date="2027-01-01"))
    with capture_logs() as lines:
        for _ in range(2):
            clients.reads(environment).list_devices("6f1d", call=Call("check-1", "users"))
        report_deprecation(Request("GET", f"{BASE}/users/7a1d/devices", {}), ANSWER)
    assert [line["call"] for line in lines] == ["GET /users/{id}/devices"]
