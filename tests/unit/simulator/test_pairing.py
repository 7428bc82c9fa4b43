"""Pairings over HTTP, and each reading of what the vendor leaves open."""

import httpx
import pytest

from worker.simulator.configuration import POLICY_ID
from worker.simulator.faults import FaultOrder
from worker.simulator.seeding import ENVIRONMENT_ID, WorldSeed

ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"
SECRET = "3132333435363738393031323334353637383930"
HOUR = 3600
ACTIVATE = {"Content-Type": "application/vnd.pingidentity.device.activate+json"}


@pytest.fixture
def tenant(visitor):
    """A tenant with two users and three tokens that nobody has."""
    users = [{"user_id": "ada"}, {"user_id": "bob"}]
    tokens = [{"serial": f"FREE{number}", "secret": SECRET} for number in (1, 2, 3)]
    visitor.simulation.seed(WorldSeed.model_validate({"users": users, "tokens": tokens}))
    return visitor


def pair(visitor, serial_number="FREE1", user_id="ada", **fields):
    body = {"type": "OATH_TOKEN", "serialNumber": serial_number} | fields
    return visitor.http.post(f"{ENVIRONMENT}/users/{user_id}/devices", json=body)


def paired_as(visitor, serial_number="FREE1"):
    """The devices that the inventory shows of a token."""
    query = {"filter": f'serialNumber eq "{serial_number}"', "expand": "devices"}
    (token,) = visitor.http.get(f"{ENVIRONMENT}/oathTokens", params=query).json()["_embedded"]["oathTokens"]
    return token.get("devices", [])


def devices_of(visitor, user_id="ada"):
    return visitor.http.get(f"{ENVIRONMENT}/users/{user_id}/devices").json()["_embedded"]["devices"]


def default_of(visitor, user_id="ada"):
    """The id of the device that a user is asked for first."""
    states = visitor.http.get("/simulator/devices").json()["devices"]
    defaults = [state["device_id"] for state in states if state["user_id"] == user_id and state["is_default"]]
    return defaults[0] if defaults else None


def change_user(visitor, **user):
    visitor.simulation.seed(WorldSeed.model_validate({"users": [{"user_id": "ada"} | user]}))


def detail(answer):
    (only,) = answer.json()["details"]
    return only["code"], only.get("target")


def test_a_pairing_makes_a_device_that_waits_for_its_activation(tenant):
    answer = pair(tenant, policy={"id": POLICY_ID})
    assert answer.status_code == 201
    device = answer.json()
    assert (device["type"], device["status"], device["user"]) == ("OATH_TOKEN", "ACTIVATION_REQUIRED", {"id": "ada"})
    assert answer.headers["Location"] == device["_links"]["self"]["href"]
    assert tenant.http.get(answer.headers["Location"]).json() == device
    assert paired_as(tenant) == [{"id": device["id"], "user": {"id": "ada"}}]
    assert devices_of(tenant) == [device]


@pytest.mark.parametrize("status", ["ACTIVATION_REQUIRED", "ACTIVE"])
def test_a_pairing_without_a_status_gets_that_of_the_setting(tenant, status):
    tenant.simulation.change({"pairing_status": status})
    assert pair(tenant).json()["status"] == status


@pytest.mark.parametrize(
    ("reading", "sent", "status"),
    [
        ("honoured", "ACTIVE", "ACTIVE"),
        ("honoured", "ACTIVATION_REQUIRED", "ACTIVATION_REQUIRED"),
        ("ignored", "ACTIVE", "ACTIVATION_REQUIRED"),
    ],
)
def test_a_status_that_is_sent_is_honoured_or_ignored(tenant, reading, sent, status):
    tenant.simulation.change({"sent_status": reading})
    assert pair(tenant, status=sent).json()["status"] == status


@pytest.mark.parametrize(("reading", "sent"), [("refused", "ACTIVATION_REQUIRED"), ("honoured", "MADE_UP")])
def test_a_status_that_is_sent_may_be_refused(tenant, reading, sent):
    tenant.simulation.change({"sent_status": reading})
    refused = pair(tenant, status=sent)
    assert (refused.status_code, detail(refused)) == (400, ("INVALID_VALUE", "status"))
    assert pair(tenant).status_code == 201


def test_a_token_that_is_not_in_the_inventory_is_refused(tenant):
    refused = pair(tenant, "NONE1")
    assert tenant.codes(refused) == (400, "INVALID_DATA", "INVALID_VALUE")
    assert detail(refused) == ("INVALID_VALUE", "serialNumber")
    tenant.simulation.change({"unknown_serial": 404})
    assert tenant.codes(pair(tenant, "NONE1")) == (404, "NOT_FOUND")


@pytest.mark.parametrize("user_id", ["ada", "bob"])
@pytest.mark.parametrize(("status", "code"), [(400, "INVALID_DATA"), (409, "REQUEST_FAILED")])
def test_a_token_that_is_paired_is_refused_whoever_has_it(tenant, user_id, status, code):
    tenant.simulation.change({"paired_serial": status})
    pair(tenant)
    assert tenant.codes(pair(tenant, user_id=user_id)) == (status, code, "UNIQUENESS_VIOLATION")
    assert len(tenant.http.get("/simulator/devices").json()["devices"]) == 1


def test_the_policy_may_be_without_tokens(tenant):
    tenant.simulation.change({"oath_enabled": False})
    assert detail(pair(tenant)) == ("INVALID_VALUE", "type")
    tenant.simulation.change({"oath_off": 403})
    assert tenant.codes(pair(tenant)) == (403, "ACCESS_FAILED")


def test_pairing_that_is_off_in_the_policy_may_be_off_for_administrators_too(tenant):
    tenant.simulation.change({"pairing_disabled": True, "pairing_disabled_for_all": True})
    assert detail(pair(tenant)) == ("INVALID_VALUE", "type")
    tenant.simulation.change({"pairing_disabled_for_all": False})
    assert pair(tenant).status_code == 201


def test_a_user_has_so_many_devices_and_no_more(tenant):
    tenant.simulation.change({"max_allowed_devices": 1})
    pair(tenant)
    refused = pair(tenant, "FREE2")
    assert tenant.codes(refused) == (400, "REQUEST_FAILED", "LIMIT_EXCEEDED")
    assert refused.json()["details"][0]["innerError"] == {"maximumAllowed": 1}
    assert pair(tenant, "FREE2", "bob").status_code == 201


def test_so_many_devices_of_a_user_wait_and_no_more(tenant):
    tenant.simulation.change({"most_waiting_devices": 1})
    assert pair(tenant, status="ACTIVE").status_code == 201
    assert pair(tenant, "FREE2").status_code == 201
    assert tenant.codes(pair(tenant, "FREE3")) == (400, "REQUEST_FAILED", "LIMIT_EXCEEDED")


@pytest.mark.parametrize("trouble", [{"enabled": False}, {"locked": True}])
def test_a_user_whose_account_cannot_be_used_gets_no_device(tenant, trouble):
    change_user(tenant, **trouble)
    assert tenant.codes(pair(tenant)) == (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")


def test_a_user_may_have_to_be_enabled_for_mfa(tenant):
    tenant.simulation.change({"pairing_needs_mfa_enabled": True})
    assert detail(pair(tenant)) == ("INVALID_VALUE", "mfaEnabled")
    address = f"{ENVIRONMENT}/users/ada/mfaEnabled"
    assert tenant.http.get(address).json() == {"mfaEnabled": False}
    assert tenant.http.put(address, json={"mfaEnabled": "yes"}).status_code == 400
    assert tenant.http.put(address, json={"mfaEnabled": True}).json() == {"mfaEnabled": True}
    assert tenant.http.get(address).json() == {"mfaEnabled": True}
    assert pair(tenant).status_code == 201
    assert tenant.http.get(f"{ENVIRONMENT}/users/eve/mfaEnabled").status_code == 404


def test_the_license_permits_so_many_devices_and_no_more(tenant):
    tenant.simulation.change({"licensed_devices": 1})
    assert pair(tenant).status_code == 201
    assert tenant.codes(pair(tenant, "FREE2", "bob")) == (403, "LICENSE_EXCEEDED")


def test_an_unknown_user_is_not_found(tenant):
    assert tenant.codes(pair(tenant, user_id="eve")) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"serialNumber": "FREE1"}, "type"),
        ({"type": "OATH_TOKEN"}, "serialNumber"),
        ({"type": "TOTP", "serialNumber": "FREE1"}, "type"),
        ({"type": "OATH_TOKEN", "serialNumber": 1}, "serialNumber"),
        ({"type": "OATH_TOKEN", "serialNumber": "FREE1", "policy": {"id": "another"}}, "policy.id"),
    ],
)
def test_a_malformed_pairing_is_refused(tenant, body, target):
    refused = tenant.http.post(f"{ENVIRONMENT}/users/ada/devices", json=body)
    assert (refused.status_code, detail(refused)[1]) == (400, target)
    assert not tenant.entries()[-1].took_effect


def test_the_inventory_shows_a_pairing_after_a_while(tenant):
    tenant.simulation.change({"inventory_read_lag": 60})
    device_id = pair(tenant).json()["id"]
    assert paired_as(tenant) == []
    assert pair(tenant, user_id="bob").status_code == 400
    tenant.simulation.change({"clock_skew": 60})
    assert [device["id"] for device in paired_as(tenant)] == [device_id]


def test_a_device_is_read_and_listed_after_a_while_but_activated_at_once(tenant):
    tenant.simulation.change({"device_read_lag": 60})
    device_id = pair(tenant).json()["id"]
    address = f"{ENVIRONMENT}/users/ada/devices/{device_id}"
    assert (tenant.http.get(address).status_code, devices_of(tenant)) == (404, [])
    assert tenant.http.post(address, json={"otp": "755224"}, headers=ACTIVATE).json()["status"] == "ACTIVE"
    tenant.simulation.change({"clock_skew": 60})
    assert tenant.http.get(address).json()["status"] == "ACTIVE"
    assert len(devices_of(tenant)) == 1


def test_a_token_whose_device_is_deleted_is_free_again(tenant):
    address = pair(tenant).headers["Location"]
    assert tenant.http.delete(address).status_code == 204
    assert tenant.http.delete(address).status_code == 404
    assert paired_as(tenant) == []
    assert pair(tenant, user_id="bob").status_code == 201


def test_a_token_that_is_paired_anew_accepts_no_otp_again(tenant):
    def activate(address, otp):
        return tenant.http.post(address, json={"otp": otp}, headers=ACTIVATE).status_code

    former = pair(tenant).headers["Location"]
    assert activate(former, "755224") == 200
    tenant.http.delete(former)
    latter = pair(tenant).headers["Location"]
    assert [activate(latter, otp) for otp in ("755224", "287082")] == [400, 200]


def test_a_deleted_device_may_be_read_and_listed_for_a_while(tenant):
    tenant.simulation.change({"deleted_read_lag": 60})
    address = pair(tenant).headers["Location"]
    pair(tenant, "FREE2", "bob")
    assert tenant.http.delete(address).status_code == 204
    assert tenant.http.delete(address).status_code == 404
    assert tenant.http.get(address).status_code == 200
    assert tenant.http.get(address.replace("/ada/", "/bob/")).status_code == 404
    assert (len(devices_of(tenant)), len(devices_of(tenant, "bob"))) == (1, 1)
    tenant.simulation.change({"clock_skew": 60})
    assert (tenant.http.get(address).status_code, devices_of(tenant)) == (404, [])


def test_the_next_active_device_becomes_the_default(tenant):
    first, second = (pair(tenant, serial, status="ACTIVE").json()["id"] for serial in ("FREE1", "FREE2"))
    pair(tenant, "FREE3")
    assert default_of(tenant) == first
    assert default_of(tenant, "bob") is None
    tenant.http.delete(f"{ENVIRONMENT}/users/ada/devices/{first}")
    assert default_of(tenant) == second
    tenant.http.delete(f"{ENVIRONMENT}/users/ada/devices/{second}")
    assert default_of(tenant) is None


def test_a_device_becomes_the_default_when_it_is_activated(tenant):
    made = pair(tenant)
    assert default_of(tenant) is None
    tenant.http.post(made.headers["Location"], json={"otp": "755224"}, headers=ACTIVATE)
    assert default_of(tenant) == made.json()["id"]


@pytest.mark.parametrize("path", ["devices", "devices/"])
def test_a_delete_without_a_device_removes_the_persons_order_and_is_counted(tenant, path):
    pair(tenant, status="ACTIVE")
    assert tenant.http.delete(f"{ENVIRONMENT}/users/ada/{path}").status_code == 204
    assert (default_of(tenant), len(devices_of(tenant))) == (None, 1)
    assert tenant.http.delete(f"{ENVIRONMENT}/users/eve/{path}").status_code == 404
    operations = [(entry.operation, entry.outcome) for entry in tenant.entries()]
    assert operations.count(("remove_order", "ORDER_REMOVED")) == 1
    assert operations.count(("remove_order", None)) == 1


def test_a_device_that_waits_for_a_day_is_deleted_and_its_token_is_free(tenant):
    pair(tenant)
    pair(tenant, "FREE2", status="ACTIVE")
    assert tenant.http.post("/simulator/age", json={"hours": 23.9}).json() == {"aged": 1}
    assert [device["status"] for device in devices_of(tenant)] == ["ACTIVATION_REQUIRED", "ACTIVE"]
    tenant.http.post("/simulator/age", json={"hours": 0.2})
    assert [device["status"] for device in devices_of(tenant)] == ["ACTIVE"]
    assert tenant.http.get("/simulator/counts").json()["devices_outlived"] == 1
    assert paired_as(tenant) == []
    assert pair(tenant).status_code == 201


def test_the_clock_and_the_setting_say_how_long_a_device_waits(tenant):
    pair(tenant)
    tenant.simulation.change({"clock_skew": 25 * HOUR, "waiting_device_life": None})
    assert len(devices_of(tenant)) == 1
    tenant.simulation.change({"waiting_device_life": 26 * HOUR})
    assert len(devices_of(tenant)) == 1
    tenant.simulation.change({"waiting_device_life": 24 * HOUR})
    assert devices_of(tenant) == []


def test_an_activated_device_is_not_deleted(tenant):
    device = pair(tenant).headers["Location"]
    tenant.http.post(device, json={"otp": "755224"}, headers=ACTIVATE)
    tenant.simulation.change({"clock_skew": 25 * HOUR})
    assert tenant.http.get(device).json()["status"] == "ACTIVE"


@pytest.mark.parametrize(("policy", "told"), [("absent", 1), ("EMAIL_THEN_SMS", 1), ("SMS_THEN_EMAIL", 1), ("NONE", 0)])
def test_a_user_is_told_of_a_new_device_as_the_policy_says(tenant, policy, told):
    tenant.simulation.change({"new_device_notification": policy})
    pair(tenant)
    pair(tenant, "NONE1")
    assert tenant.http.get("/simulator/notifications").json() == {"users": {"ada": 1} if told else {}}
    pair(tenant, "FREE2")
    counts = tenant.http.get("/simulator/counts").json()
    assert (counts["notifications"], counts["people_notified"]) == (2 * told, told)


def test_the_call_log_notes_what_a_pairing_made(tenant):
    device_id = pair(tenant).json()["id"]
    pair(tenant, user_id="bob")
    made, refused = tenant.entries()
    assert (made.operation, made.user_id, made.serial_number) == ("pair", "ada", "FREE1")
    assert (made.made_device_id, made.took_effect, made.outcome) == (device_id, True, "PAIRED")
    assert (refused.serial_number, refused.made_device_id, refused.took_effect) == ("FREE1", None, False)


@pytest.mark.parametrize(("kind", "devices"), [("reset_before", 0), ("reset_after", 1)])
def test_a_pairing_whose_answer_is_lost_may_have_taken_effect(tenant, kind, devices):
    orders = [FaultOrder(kind, "pair", serial_number="FREE2"), FaultOrder(kind, "unpair")]
    tenant.simulation.faults.orders.extend(orders)
    assert pair(tenant).status_code == 201
    with pytest.raises(httpx.ReadError):
        pair(tenant, "FREE2", "bob")
    assert len(devices_of(tenant, "bob")) == devices
    assert tenant.simulation.faults.orders == orders[1:]


def test_a_garbled_pairing_has_taken_effect(tenant):
    tenant.simulation.change({"faults": {"garbled": 1}, "fault_operations": ["pair"]})
    assert "Please wait" in pair(tenant).text
    assert len(devices_of(tenant)) == 1
