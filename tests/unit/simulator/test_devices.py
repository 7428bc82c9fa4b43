"""What the simulator answers to calls for devices: PINGONE.md, 2, 3, 6 and 7."""

import base64
import re

import pytest

from worker.simulator.calls import ROUTES, Call
from worker.simulator.server import HANDLERS
from worker.simulator.simulation import AccessTokens, TokenBucket
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID, Settings

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def make_call(method, path, media_type="", **headers):
    sent = [(name.encode(), value.encode()) for name, value in {"content-type": media_type, **headers}.items()]
    return Call.from_scope({"method": method, "path": path, "query_string": b"", "headers": sent})


def test_every_operation_has_its_request_and_its_handler():
    found = set()
    for route, (_, methods) in ROUTES.items():
        path = {"roles": "/v1/roles", "as/token": "/e/as/token"}.get(route, f"/v1/environments/e/{route}")
        for method, choice in methods.items():
            media_types = {"": choice} if isinstance(choice, str) else choice
            for media_type, operation in media_types.items():
                assert make_call(method, path, f"{media_type}; charset=utf-8").operation == operation
                found.add(operation)
    assert found == HANDLERS.keys()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "users/u/devices/d", 415), ("PUT", "users/u/devices/d", 405), ("GET", "made/up", 404)],
)
def test_what_is_no_operation_is_refused(visitor, method, path, status):
    answer = visitor.send(method, f"/v1/environments/{ENVIRONMENT_ID}/{path}")
    assert (answer.status_code, "id" in answer.json()) == (status, True)


def test_an_activation_answers_the_active_device(visitor):
    visitor.seed_device()
    answer = visitor.activate("755224")
    device = answer.json()
    assert (answer.status_code, device["id"], device["type"]) == (200, "device", "OATH_TOKEN")
    assert device["status"] == "ACTIVE"
    assert (device["lock"], device["block"]) == ({"status": "UNLOCKED"}, {"status": "UNBLOCKED"})
    assert device["_links"]["self"]["href"] == f"{visitor.url}{visitor.path()}"
    assert visitor.read().json() == device
    assert UUID.fullmatch(answer.headers["Correlation-Id"])
    assert answer.headers["Date"].endswith("GMT")


def test_a_token_out_of_step_is_activated_with_its_second_otp(visitor):
    visitor.seed_device(out_of_step=True)
    answer = visitor.activate("755224")
    body = answer.json()
    assert (answer.status_code, bool(UUID.fullmatch(body.pop("id")))) == (400, True)
    assert body == {
        "code": "INVALID_DATA",
        "message": "The request could not be completed. One or more validation errors were in the request.",
        "details": [{"code": "EXTRA_OTP_REQUIRED", "target": "otp", "message": "An extra OTP is required"}],
    }
    assert visitor.read().json()["status"] == "ACTIVATION_REQUIRED"
    assert visitor.activate("287082", True).json()["status"] == "ACTIVE"


# What is answered to the OTP, by what the device is.
OBSTACLES = {
    "wrong": ({}, "999999", (400, "INVALID_DATA", "INVALID_OTP", "otp")),
    "no secret": ({"secret": None}, "755224", (400, "INVALID_DATA", "INVALID_OTP", "otp")),
    "locked": ({"locked": True}, "755224", (400, "REQUEST_FAILED", "DEVICE_LOCKED")),
    "blocked": ({"blocked": True}, "755224", (400, "REQUEST_FAILED", "DEVICE_BLOCKED")),
    "account": ({"account_usable": False}, "755224", (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "active": ({"status": "ACTIVE"}, "755224", (400, "REQUEST_FAILED", "INVALID_VALUE", "status")),
    "elsewhere": ({"device_id": "other"}, "755224", (404, "NOT_FOUND")),
    "another's": ({"user_id": "other"}, "755224", (404, "NOT_FOUND")),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_an_obstacle_has_a_code(visitor, obstacle):
    device, otp, codes = OBSTACLES[obstacle]
    visitor.seed_device(**device)
    assert visitor.codes(visitor.activate(otp)) == codes


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", (400, "INVALID_REQUEST")),
        (b"[]", (400, "INVALID_REQUEST")),
        (b"{}", (400, "INVALID_DATA", "REQUIRED_VALUE", "otp")),
        (b'{"otp": 755224}', (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
        (b'{"otp": "75522"}', (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
        (b'{"otp": "\\ud800"}', (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
        (b'{"otp": "755224", "oathResync": "yes"}', (400, "INVALID_DATA", "INVALID_VALUE", "oathResync")),
    ],
)
def test_a_malformed_activation_is_refused_and_counts_for_nothing(visitor, body, codes):
    visitor.seed_device()
    answer = visitor.send("POST", visitor.path(), body, "application/vnd.pingidentity.device.activate+json")
    assert visitor.codes(answer) == codes
    assert visitor.simulation.world.find_by_id("device").failures == 0


def test_failures_lock_a_device_until_it_has_cooled_down(visitor):
    visitor.simulation.change({"failure_count": 2, "cool_down": 60})
    visitor.seed_device()
    for expected in ("INVALID_OTP", "INVALID_OTP", "DEVICE_LOCKED"):
        assert visitor.codes(visitor.activate("999999"))[2] == expected
    lock = visitor.read().json()["lock"]
    assert (lock["status"], lock["expiresAt"][-1]) == ("LOCKED", "Z")
    visitor.simulation.change({"clock_skew": 60})
    assert visitor.activate("755224").status_code == 200


def test_failures_over_all_devices_lock_the_account(visitor):
    visitor.simulation.change({"account_lock_after": 2})
    visitor.seed_device()
    visitor.seed_device(serial="MADE2", device_id="second")
    for device_id in ("device", "second"):
        visitor.activate("999999", device_id=device_id)
    assert visitor.codes(visitor.activate("755224"))[2] == "ACCOUNT_NOT_USABLE"


def test_an_unpaired_device_is_gone_and_its_token_free(visitor):
    visitor.seed_device()
    assert visitor.http.delete(visitor.path()).status_code == 204
    assert visitor.read().status_code == 404
    assert "devices" not in visitor.inventory()["MADE1"]


@pytest.mark.parametrize("path", ["", "/"])
def test_a_delete_without_a_device_removes_an_order_and_no_device(visitor, path):
    visitor.seed_device()
    assert visitor.http.delete(visitor.path("").rstrip("/") + path).status_code == 204
    assert visitor.read().status_code == 200
    assert visitor.entries()[0].operation == "remove_order"


def test_a_users_devices_are_listed_without_a_filter(visitor):
    visitor.seed_device()
    visitor.seed_device(serial="MADE2", device_id="second", status="ACTIVE")
    path = "users/user/devices"
    assert [device["id"] for device in visitor.listed(path)] == ["device", "second"]
    refused = visitor.read(path, filter='status eq "ACTIVE"')
    assert visitor.codes(refused) == (400, "INVALID_REQUEST", "INVALID_FILTER", "filter")


def test_a_pairing_makes_a_device_that_waits_for_its_activation(visitor):
    visitor.seed(users=[{"user_id": "user"}], tokens=[{"serial": "FREE1"}, {"serial": "FREE2"}])
    answer = visitor.pair()
    device = answer.json()
    assert (answer.status_code, device["status"], device["user"]) == (201, "ACTIVATION_REQUIRED", {"id": "user"})
    assert visitor.http.get(answer.headers["Location"]).json() == device
    assert visitor.inventory()["FREE1"]["devices"] == [{"id": device["id"], "user": {"id": "user"}}]
    assert visitor.pair("FREE2", status="ACTIVE").json()["status"] == "ACTIVE"


# What is answered to a pairing: user, fields besides those of a good one, and the codes.
PAIRINGS = {
    "unknown token": ("user", {"serialNumber": "NONE1"}, (400, "INVALID_DATA", "INVALID_VALUE", "serialNumber")),
    "paired": ("user", {"serialNumber": "MADE1"}, (400, "INVALID_DATA", "UNIQUENESS_VIOLATION", "serialNumber")),
    "another's": ("idle", {"serialNumber": "MADE1"}, (400, "INVALID_DATA", "UNIQUENESS_VIOLATION", "serialNumber")),
    "nobody": ("eve", {}, (404, "NOT_FOUND")),
    "disabled": ("disabled", {}, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "locked": ("locked", {}, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "no type": ("user", {"type": None}, (400, "INVALID_DATA", "REQUIRED_VALUE", "type")),
    "another type": ("user", {"type": "TOTP"}, (400, "INVALID_DATA", "INVALID_VALUE", "type")),
    "no serial number": ("user", {"serialNumber": None}, (400, "INVALID_DATA", "REQUIRED_VALUE", "serialNumber")),
    "a made-up status": ("user", {"status": "MADE_UP"}, (400, "INVALID_DATA", "INVALID_VALUE", "status")),
}


@pytest.mark.parametrize("case", PAIRINGS)
def test_a_pairing_is_refused_with_a_code(visitor, case):
    user_id, fields, codes = PAIRINGS[case]
    users = [{"user_id": "idle"}, {"user_id": "disabled", "enabled": False}, {"user_id": "locked", "locked": True}]
    visitor.seed(users=users, tokens=[{"serial": "FREE1"}])
    visitor.seed_device()
    assert visitor.codes(visitor.pair(user_id=user_id, **fields)) == codes


def test_a_user_has_so_many_devices_and_no_more(visitor):
    visitor.simulation.change({"max_allowed_devices": 1})
    visitor.seed_device()
    visitor.seed(tokens=[{"serial": "FREE1"}])
    refused = visitor.pair()
    assert visitor.codes(refused) == (400, "REQUEST_FAILED", "LIMIT_EXCEEDED")
    assert refused.json()["details"][0]["innerError"] == {"maximumAllowed": 1}


def test_a_token_that_is_paired_anew_accepts_no_otp_again(visitor):
    visitor.seed_device()
    visitor.activate("755224")
    visitor.http.delete(visitor.path())
    device_id = visitor.pair("MADE1").json()["id"]
    assert [visitor.activate(otp, device_id=device_id).status_code for otp in ("755224", "287082")] == [400, 200]


def test_a_device_that_waits_for_a_day_is_deleted_and_its_token_is_free(visitor):
    visitor.seed_device()
    visitor.seed_device(serial="MADE2", device_id="second")
    visitor.activate("755224", device_id="second")
    visitor.simulation.change({"clock_skew": 86_390})
    assert len(visitor.listed("users/user/devices")) == 2
    visitor.simulation.change({"clock_skew": 86_410})
    assert [device["id"] for device in visitor.listed("users/user/devices")] == ["second"]
    assert visitor.pair("MADE1").status_code == 201


def test_a_client_gets_an_access_token_for_its_secret_and_for_an_hour():
    now = [0.0]
    access = AccessTokens(lambda: now[0])
    access.clients["the client"] = "the: secret"

    def ask(body, credentials=None):
        headers = {"authorization": f"Basic {base64.b64encode(credentials).decode()}"} if credentials else {}
        call = make_call("POST", "/e/as/token", **headers)
        call.body = body
        return access.answer_request(call)

    grant = b"grant_type=client_credentials"
    in_form = grant + b"&client_id=the+client&client_secret=the: secret"
    assert [ask(grant, b"the+client:the%3A+secret").status, ask(in_form).status] == [200, 200]
    (first, _), bearer = access.expires_at, lambda token: make_call("GET", "/", authorization=f"Bearer {token}")
    assert (access.admits(bearer(first)), access.admits(bearer("made-up"))) == (True, False)
    now[0] = 3600.0
    assert not access.admits(bearer(first))
    refused = [ask(grant, b"the+client:wrong"), ask(grant), ask(b"", b"the+client:x")]
    assert [answer.status for answer in refused] == [401, 401, 400]
    assert first not in repr(access)


def test_without_an_access_token_nothing_is_told_or_done(visitor):
    visitor.seed_device()
    visitor.http.headers["Authorization"] = "Bearer made-up"
    for answer in (visitor.activate("755224"), visitor.read(), visitor.read("users"), visitor.read("oathTokens")):
        assert visitor.codes(answer) == (401, "ACCESS_FAILED", "INVALID_TOKEN")
    assert visitor.simulation.world.find_by_id("device").status == "ACTIVATION_REQUIRED"


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(Settings(rate=4, burst=2), "mfa")
    assert [bucket.take(at) for at in (0.0, 0.0, 0.0, 0.25)] == [None, None, pytest.approx(0.25), None]
    # It holds no more than its burst, and a refused request takes nothing.
    assert [bucket.take(1000.0) is None for _ in range(4)] == [True, True, False, False]
    assert [TokenBucket(Settings(rate=rate), "mfa").take(0.0) for rate in (None, 0)] == [None, 1.0]


def test_each_group_has_a_limit_of_its_own_which_says_when_to_come_again(visitor):
    visitor.seed_device()
    visitor.simulation.change({"rate": 0.001, "group_rates": {"inventory": 0.001, "configuration": 0}, "burst": 1})
    paths = {"mfa": None, "directory": "users", "inventory": "oathTokens", "configuration": "mfaSettings"}
    answers = {group: [visitor.read(path) for _ in range(2)] for group, path in paths.items()}
    statuses = {group: [answer.status_code for answer in pair] for group, pair in answers.items()}
    assert statuses == {"mfa": [200, 429], "directory": [200] * 2, "inventory": [200, 429], "configuration": [429] * 2}
    limited = answers["mfa"][1]
    assert visitor.codes(limited) == (429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
    assert 900 < int(limited.headers["Retry-After"]) <= 1000
    visitor.simulation.change({"rate": None})
    assert visitor.read().status_code == 200


def test_the_client_that_is_there_at_each_start(visitor):
    assert visitor.simulation.access.clients == {CLIENT_ID: CLIENT_SECRET}
