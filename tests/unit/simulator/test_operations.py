"""What the simulator answers over HTTP, in each reading of what the vendor leaves open."""

import json
import re
from email.utils import parsedate_to_datetime

import pytest

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_an_activation_answers_the_active_device(visitor):
    visitor.seed()
    answer = visitor.activate("111111")
    assert answer.status_code == 200
    device = answer.json()
    assert (device["id"], device["type"], device["status"]) == ("device", "OATH_TOKEN", "ACTIVE")
    assert (device["lock"], device["block"]) == ({"status": "UNLOCKED"}, {"status": "UNBLOCKED"})
    assert device["_links"]["self"]["href"] == f"{visitor.url}{visitor.path()}"
    assert visitor.read().json() == device


def test_a_token_out_of_step_is_activated_with_its_second_otp(visitor):
    visitor.seed(out_of_step=True)
    answer = visitor.activate("111111")
    assert answer.status_code == 400
    body = answer.json()
    assert UUID.fullmatch(body.pop("id"))
    assert body == {
        "code": "INVALID_DATA",
        "message": "The request could not be completed. One or more validation errors were in the request.",
        "details": [{"code": "EXTRA_OTP_REQUIRED", "target": "otp", "message": "An extra OTP is required"}],
    }
    assert visitor.read().json()["status"] == "ACTIVATION_REQUIRED"
    assert visitor.activate("222222", True).json()["status"] == "ACTIVE"


def test_every_answer_has_a_correlation_id_and_a_date(visitor):
    visitor.seed()
    visitor.simulation.change({"clock_skew": 3600})
    answers = [visitor.read(), visitor.read("another"), visitor.http.get("/made/up"), visitor.activate("1")]
    answers.append(visitor.http.delete(visitor.path()))
    for answer, entry in zip(answers, visitor.entries(), strict=True):
        assert answer.headers["Correlation-Id"] == entry.correlation_id
        ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - entry.time
        assert 3590 < ahead < 3610


def test_a_device_that_is_not_there_is_not_found(visitor):
    visitor.seed()
    assert visitor.codes(visitor.read("another")) == (404, "NOT_FOUND")
    assert visitor.codes(visitor.activate("111111", device_id="another")) == (404, "NOT_FOUND")


def test_without_an_access_token_nothing_is_done(visitor):
    visitor.seed()
    answer = visitor.activate("111111", headers={"Authorization": "Bearer made-up"})
    assert visitor.codes(answer) == (401, "ACCESS_FAILED", "INVALID_TOKEN")
    assert visitor.read().json()["status"] == "ACTIVATION_REQUIRED"


def test_another_media_type_is_another_operation_or_none(visitor):
    visitor.seed()
    assert visitor.codes(visitor.activate("111111", media_type="application/json")) == (415, "INVALID_REQUEST")
    assert visitor.administer("block").json()["block"]["status"] == "BLOCKED"
    assert visitor.administer("unblock").json()["block"] == {"status": "UNBLOCKED"}


def test_a_locked_device_can_be_unlocked(visitor):
    visitor.seed()
    for _ in range(3):
        visitor.activate("999999")
    lock = visitor.read().json()["lock"]
    assert lock["status"] == "LOCKED"
    assert lock["expiresAt"].endswith("Z")
    assert visitor.administer("unlock").json()["lock"] == {"status": "UNLOCKED"}
    assert visitor.activate("111111").status_code == 200


def test_an_unpaired_device_is_gone(visitor):
    visitor.seed()
    answer = visitor.http.delete(visitor.path())
    assert (answer.status_code, answer.content) == (204, b"")
    assert visitor.read().status_code == 404


def test_a_users_devices_are_listed_by_status(visitor):
    visitor.seed()
    visitor.seed(device_id="second", status="ACTIVE")
    listing = visitor.http.get(visitor.path("").rstrip("/"), params={"filter": 'status eq "ACTIVE"'}).json()
    assert [device["id"] for device in listing["_embedded"]["devices"]] == ["second"]
    everything = visitor.http.get(visitor.path("").rstrip("/")).json()
    assert everything["count"] == 2
    refused = visitor.http.get(visitor.path("").rstrip("/"), params={"filter": 'serialNumber eq "MADE1"'})
    assert visitor.codes(refused) == (400, "INVALID_REQUEST", "INVALID_FILTER")


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", (400, "INVALID_REQUEST")),
        (b"[]", (400, "INVALID_REQUEST")),
        (b"{}", (400, "INVALID_DATA", "REQUIRED_VALUE")),
        (b'{"otp": 111111}', (400, "INVALID_DATA", "INVALID_VALUE")),
        (b'{"otp": "11111"}', (400, "INVALID_DATA", "INVALID_VALUE")),
        (b'{"otp": "\\ud800"}', (400, "INVALID_DATA", "INVALID_VALUE")),
        (b'{"otp": "111111", "oathResync": "yes"}', (400, "INVALID_DATA", "INVALID_VALUE")),
    ],
)
def test_a_malformed_activation_is_refused_and_counts_for_nothing(visitor, body, codes):
    visitor.seed()
    media_type = "application/vnd.pingidentity.device.activate+json"
    answer = visitor.http.post(visitor.path(), content=body, headers={"Content-Type": media_type})
    assert visitor.codes(answer) == codes
    assert visitor.simulation.world.find_by_id("device").failures == 0
    assert not visitor.entries()[0].took_effect


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("detail", (400, "INVALID_DATA", "INVALID_OTP")),
        ("code", (400, "INVALID_OTP")),
        ("invalid_value", (400, "INVALID_DATA", "INVALID_VALUE")),
    ],
)
def test_a_wrong_otp_is_refused_in_one_of_three_ways(visitor, body, codes):
    visitor.seed()
    visitor.simulation.change({"invalid_otp_body": body})
    assert visitor.codes(visitor.activate("999999")) == codes
    assert visitor.simulation.world.find_by_id("device").failures == 1


@pytest.mark.parametrize(
    ("reading", "codes"),
    [
        ("detail", (400, "REQUEST_FAILED", "DEVICE_LOCKED")),
        ("bare", (400, "REQUEST_FAILED")),
        ("invalid_otp", (400, "INVALID_DATA", "INVALID_OTP")),
    ],
)
def test_a_locked_device_refuses_in_one_of_three_ways(visitor, reading, codes):
    visitor.seed(locked=True)
    visitor.simulation.change({"locked_answer": reading})
    assert visitor.codes(visitor.activate("111111")) == codes
    assert visitor.read().json()["lock"] == {"status": "LOCKED"}


@pytest.mark.parametrize(
    ("device", "codes"),
    [
        ({"blocked": True}, (400, "REQUEST_FAILED", "DEVICE_BLOCKED")),
        ({"account_usable": False}, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
        ({"forbidden": True}, (403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")),
    ],
)
def test_an_obstacle_has_a_code(visitor, device, codes):
    visitor.seed(**device)
    assert visitor.codes(visitor.activate("111111")) == codes


def test_an_active_device_answers_another_activation_in_one_of_three_ways(visitor):
    visitor.seed(status="ACTIVE")
    assert visitor.codes(visitor.activate("111111")) == (400, "REQUEST_FAILED", "INVALID_VALUE")
    visitor.simulation.change({"active_answer": "invalid_otp"})
    assert visitor.codes(visitor.activate("111111")) == (400, "INVALID_DATA", "INVALID_OTP")
    visitor.simulation.change({"active_answer": "ok"})
    assert visitor.activate("111111").json()["status"] == "ACTIVE"


def test_an_activation_may_answer_without_a_status(visitor):
    visitor.seed()
    visitor.simulation.change({"activation_body": "no_status"})
    answer = visitor.activate("111111")
    assert answer.status_code == 200
    assert "status" not in answer.json()
    assert visitor.read().json()["status"] == "ACTIVE"


def test_a_missing_role_forbids_everything(visitor):
    visitor.seed()
    visitor.simulation.change({"permitted": False})
    assert visitor.codes(visitor.read()) == (403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")


def test_the_limit_is_said_and_can_be_lifted_while_running(visitor):
    visitor.seed()
    visitor.simulation.change({"rate": 0.001, "burst": 1})
    assert visitor.read().status_code == 200
    limited = visitor.activate("111111")
    assert visitor.codes(limited) == (429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
    assert int(limited.headers["Retry-After"]) > 900
    visitor.simulation.change({"rate": None})
    assert visitor.activate("111111").status_code == 200


def test_the_call_log_tells_what_was_sent_done_and_answered(visitor):
    visitor.seed(out_of_step=True)
    headers = {"X-Ping-External-Session-Id": "batch", "X-Ping-External-Transaction-Id": "record"}
    first = visitor.activate("111111", headers=headers)
    visitor.activate("222222", True, headers=headers)
    one, two = visitor.entries()
    fingerprint = visitor.simulation.call_log.fingerprint
    assert (one.method, one.path, one.user_id, one.device_id) == ("POST", visitor.path(), "user", "device")
    assert (one.operation, one.otp, one.oath_resync) == ("activate", fingerprint("111111"), None)
    assert (two.operation, two.otp, two.oath_resync) == ("activate", fingerprint("222222"), True)
    assert (one.outcome, one.status, one.code, one.detail_code, one.took_effect) == (
        "EXTRA_OTP_REQUIRED",
        400,
        "INVALID_DATA",
        "EXTRA_OTP_REQUIRED",
        True,
    )
    assert (two.outcome, two.status, two.code, two.took_effect) == ("ACTIVE", 200, None, True)
    assert one.error_id == first.json()["id"]
    assert (one.session_id, one.transaction_id) == ("batch", "record")
    assert one.arrived_at <= one.effect_at <= one.ended_at <= two.arrived_at
    assert "111111" not in json.dumps(one.to_dict())
