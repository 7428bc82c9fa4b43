"""The control API: setting the simulator up, and reading what it saw."""

import socket

import httpx
import pytest

from worker.simulator.oath import hotp
from worker.simulator.seeding import ENVIRONMENT_ID
from worker.simulator.server import is_loopback, listen, running
from worker.simulator.simulation import Simulation

DEVICE = {"serial": "MADE1", "user_id": "user", "device_id": "device", "otps": ["111111", "222222"]}


def test_a_world_is_added_to(visitor):
    assert visitor.http.post("/simulator/world", json={"devices": [DEVICE]}).json() == {"devices": 1}
    second = {"devices": [DEVICE | {"device_id": "second"}], "settings": {"failure_count": 5}}
    assert visitor.http.post("/simulator/world", json=second).status_code == 201
    assert visitor.activate("111111").status_code == 200
    devices = visitor.http.get("/simulator/devices").json()["devices"]
    assert [(device["device_id"], device["status"]) for device in devices] == [
        ("device", "ACTIVE"),
        ("second", "ACTIVATION_REQUIRED"),
    ]
    assert visitor.http.get("/simulator/settings").json()["failure_count"] == 5


def test_a_devices_state_holds_nothing_secret(visitor):
    visitor.http.post("/simulator/world", json={"devices": [DEVICE]})
    visitor.activate("999999")
    answer = visitor.http.get("/simulator/devices/device")
    assert (answer.json()["failures"], answer.json()["counter"], answer.json()["locked"]) == (1, 0, False)
    assert "111111" not in answer.text
    assert visitor.http.get("/simulator/devices/another").status_code == 404


def test_all_tokens_are_told_with_who_imported_them_and_who_has_them(visitor):
    free = {"serial": "FREE1", "secret": "c0ffee", "type": "totp", "digits": 8, "hash": "sha256", "time_step": 60}
    visitor.http.post("/simulator/world", json={"devices": [DEVICE], "tokens": [free]})
    token = {"serialNumber": "NEW1", "secret": "c0ffee", "type": "HOTP", "otpLength": 6, "hotp": {"counter": 7}}
    created = visitor.http.post(f"/v1/environments/{ENVIRONMENT_ID}/oathTokens", json=token).json()
    answer = visitor.http.get("/simulator/tokens")
    assert "c0ffee" not in answer.text
    states = {state["serial"]: state for state in answer.json()["tokens"]}
    assert (states["MADE1"]["device_id"], states["MADE1"]["user_id"]) == ("device", "user")
    told = {"type": "totp", "digits": 8, "hash": "sha256", "time_step": 60, "made_by": None, "device_id": None}
    assert {name: states["FREE1"][name] for name in told} == told
    new = states["NEW1"]
    assert (new["token_id"], new["counter"], new["time_step"]) == (created["id"], 7, None)
    assert new["made_by"] == visitor.entries()[0].number


def test_jobs_are_told_with_what_they_did(visitor):
    visitor.simulation.change({"job_takes": 0, "job_kept_reads": 0})
    visitor.http.post("/simulator/world", json={"tokens": [{"serial": "FREE1"}]})
    new = {"secret": "c0ffee", "type": "HOTP", "otpLength": 6}
    tokens = [new | {"serialNumber": serial} for serial in ("FREE1", "NEW1")]
    media_type = {"Content-Type": "application/vnd.pingidentity.job.oathtokens.create+json"}
    body = {"type": "CREATE_OATH_TOKENS", "tokens": tokens}
    posted = visitor.http.post(f"/v1/environments/{ENVIRONMENT_ID}/oathJobs", json=body, headers=media_type).json()
    (job,) = visitor.http.get("/simulator/jobs").json()["jobs"]
    assert (job["job_id"], job["status"], job["duplicates"]) == (posted["id"], "DONE", ["FREE1"])
    states = {state["serial"]: state for state in visitor.http.get("/simulator/tokens").json()["tokens"]}
    assert job["token_ids"] == [states["NEW1"]["token_id"]]
    assert (states["NEW1"]["job_id"], states["FREE1"]["job_id"]) == (job["job_id"], None)
    assert states["NEW1"]["made_by"] == job["made_by"] == visitor.entries()[0].number
    counts = visitor.http.get("/simulator/counts").json()
    assert (counts["tokens"], counts["jobs"]) == (2, 1)


def test_a_device_is_told_with_who_made_it(visitor):
    visitor.http.post("/simulator/world", json={"devices": [DEVICE], "tokens": [{"serial": "FREE1"}]})
    path = visitor.path("").rstrip("/")
    visitor.http.post(path, json={"type": "OATH_TOKEN", "serialNumber": "FREE1"})
    seeded, made = visitor.http.get("/simulator/devices").json()["devices"]
    assert (seeded["made_by"], made["made_by"]) == (None, visitor.entries()[0].number)
    assert (made["serial"], made["user_id"], made["status"]) == ("FREE1", "user", "ACTIVATION_REQUIRED")


def test_a_person_signs_on_with_an_active_device(visitor):
    def sign_on(otp, device_id="device"):
        return visitor.http.post(f"/simulator/devices/{device_id}/sign-on", json={"otp": otp})

    visitor.http.post("/simulator/world", json={"devices": [DEVICE]})
    assert sign_on("111111").json() == {"outcome": "NOT_ACTIVE"}
    visitor.activate("111111")
    assert [sign_on(otp).json()["outcome"] for otp in ("111111", "222222")] == ["INVALID_OTP", "SIGNED_ON"]
    assert sign_on("222222", "another").status_code == 404
    refused = visitor.http.post("/simulator/devices/device/sign-on", json={"otp": 222222})
    assert (refused.status_code, "222222" in refused.text) == (400, False)
    assert len(visitor.entries()) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/simulator/world", {"devices": [DEVICE | {"secret": "c0ffee"}]}),
        ("POST", "/simulator/world", {"devices": [DEVICE], "settings": {"made_up": 1}}),
        ("PATCH", "/simulator/settings", {"rate": -1}),
        ("PATCH", "/simulator/settings", []),
        ("POST", "/simulator/faults", [{"kind": "made_up"}]),
        ("POST", "/simulator/age", {"hours": -1}),
    ],
)
def test_a_wrong_request_is_refused_and_changes_nothing(visitor, method, path, body):
    before = visitor.simulation.settings
    answer = visitor.http.request(method, path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert "c0ffee" not in answer.text
    assert visitor.simulation.settings is before
    assert visitor.http.get("/simulator/devices").json() == {"devices": []}


def test_settings_change_while_it_runs(visitor):
    assert visitor.http.patch("/simulator/settings", json={"permitted": False}).json()["permitted"] is False
    assert visitor.read().status_code == 403


def test_the_call_log_is_read_in_pages_and_by_field(visitor):
    visitor.http.post("/simulator/world", json={"devices": [DEVICE]})
    for _ in range(3):
        visitor.read()
    visitor.activate("111111")
    page = visitor.http.get("/simulator/journal", params={"limit": 3}).json()
    assert [entry["operation"] for entry in page["entries"]] == ["access_token", "read", "read"]
    rest = visitor.http.get("/simulator/journal", params={"after": page["next"]}).json()
    assert [entry["operation"] for entry in rest["entries"]] == ["read", "activate"]
    nothing = visitor.http.get("/simulator/journal", params={"after": rest["next"]}).json()
    assert nothing == {"entries": [], "next": rest["next"]}
    reads = visitor.http.get("/simulator/journal", params={"operation": "read", "device_id": "device"}).json()
    assert len(reads["entries"]) == 3
    assert visitor.http.get("/simulator/journal", params={"after": "x"}).status_code == 400


def test_counts_add_up(visitor):
    visitor.http.post("/simulator/world", json={"devices": [DEVICE]})
    visitor.activate("111111")
    counts = visitor.http.get("/simulator/counts").json()
    assert counts["operations"] == {"access_token": 1, "activate": 1}
    assert (counts["calls"], counts["otp_posts"], counts["devices"]) == (2, 1, {"ACTIVE": 1})


def test_the_tally_tells_what_the_limit_did_second_by_second(visitor):
    limit = {"rate": 2e-6, "limit_window": 1e6}
    visitor.http.post("/simulator/world", json={"devices": [DEVICE], "settings": limit})
    statuses = [visitor.activate(otp).status_code for otp in ("999999", "111111", "111111")]
    assert statuses == [400, 200, 429]
    seconds = visitor.http.get("/simulator/tally").json()["seconds"]
    assert sum(second["let_through"] for second in seconds) == 2
    assert sum(second["limited"] for second in seconds) == 1
    assert {second["rate"] for second in seconds} == {2e-6}
    entries = visitor.entries()
    assert {second["at"] for second in seconds} == {int(entry.arrived_at) for entry in entries}
    visitor.http.post("/simulator/reset")
    assert visitor.http.get("/simulator/tally").json() == {"seconds": []}


def test_access_tokens_can_be_revoked(visitor):
    assert visitor.http.post("/simulator/access_tokens/revoke").json() == {"revoked": 1}
    assert visitor.read().status_code == 401
    visitor.http.headers["Authorization"] = f"Bearer {visitor.access_token()}"
    assert visitor.read().status_code == 404


def test_a_reset_brings_back_the_start(visitor):
    visitor.http.post("/simulator/world", json={"devices": [DEVICE], "settings": {"rate": 5}})
    visitor.http.post("/simulator/reset")
    assert visitor.http.get("/simulator/settings").json()["rate"] is None
    assert visitor.http.get("/simulator/devices").json() == {"devices": []}
    assert visitor.http.get("/simulator/counts").json()["calls"] == 0
    assert visitor.access_token()


def test_without_control_the_control_api_is_not_there():
    with running(Simulation(), control=False) as url:
        assert httpx.get(f"{url}/simulator/settings").status_code == 401
        assert httpx.post(f"{url}/simulator/reset").json()["code"] == "ACCESS_FAILED"
        assert httpx.post(f"{url}/{ENVIRONMENT_ID}/as/token").status_code == 400


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("example.test", False),
    ],
)
def test_loopback_is_told_from_the_rest(host, loopback):
    assert is_loopback(host) is loopback


def test_answers_do_not_wait_for_acknowledgements():
    """asyncio turns Nagle's algorithm off only for sockets whose protocol was named as TCP."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_tokens_are_pressed_by_serial_number_where_they_have_a_button(visitor):
    by_the_clock = {"serial": "CLOCK1", "secret": "c0ffee", "type": "totp"}
    visitor.http.post("/simulator/world", json={"devices": [DEVICE], "tokens": [by_the_clock, {"serial": "NONE1"}]})
    asked = {"serials": ["MADE1", "CLOCK1", "NONE1", "another"]}
    assert visitor.http.post("/simulator/tokens/press", json=asked).json() == {"otps": {"MADE1": ["111111", "222222"]}}
    assert visitor.http.post("/simulator/tokens/press", json=asked).json() == {"otps": {}}
    assert visitor.http.post("/simulator/tokens/press", json={"serials": "MADE1"}).status_code == 400
    assert visitor.activate("111111").status_code == 200


def test_an_imported_token_begins_where_its_import_says(visitor):
    token = {"serialNumber": "NEW1", "secret": "c0ffee", "type": "HOTP", "otpLength": 6, "hotp": {"counter": 7}}
    visitor.http.post(f"/v1/environments/{ENVIRONMENT_ID}/oathTokens", json=token)
    otps = visitor.http.post("/simulator/tokens/press", json={"serials": ["NEW1"]}).json()["otps"]["NEW1"]
    assert otps == [hotp(bytes.fromhex("c0ffee"), 7), hotp(bytes.fromhex("c0ffee"), 8)]
