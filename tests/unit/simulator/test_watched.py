"""What tests turn: faults that hit a call, readings of what the vendor leaves open, and what the call log says."""

import asyncio
import socket

import httpx
import pytest
import uvicorn
from support.processes.waiting import wait_until
from support.simulator.server import running
from support.simulator.settings import WatchedSettings
from support.simulator.simulation import FaultOrder, WatchedSimulation
from unit.simulator.conftest import SECRET

from worker.simulator.world import ENVIRONMENT_ID


def order(visitor, kind, operation="activate"):
    """Order this fault for the next call for the operation."""
    assert visitor.send("POST", "/simulator/faults", [{"kind": kind, "operation": operation}]).status_code == 200


def last(visitor):
    """The last entry of the call log, when its call is over."""
    wait_until(lambda: visitor.entries() and visitor.entries()[-1].ended_at, 10, "the call has ended")
    return visitor.entries()[-1]


# Of each fault: what the client sees, and whether the device is ACTIVE then.
FAULTS = {
    "reset_before": (httpx.ReadError, False),
    "reset_after": (httpx.ReadError, True),
    "reset_late": (httpx.ReadError, True),
    "error_before": (503, False),
    "error_after": (503, True),
    "hang_before": (httpx.ReadTimeout, False),
    "hang_after": (httpx.ReadTimeout, True),
    "drip": (200, True),
    "garbled": (200, True),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_hides_what_the_call_log_knows(visitor, kind):
    seen, is_active = FAULTS[kind]
    visitor.seed_device()
    visitor.simulation.change({"error_statuses": [503], "error_html_share": 1, "error_retry_after": 9})
    visitor.simulation.change({"drip_interval": 0.0001, "late_effect_after": 0.2})
    order(visitor, kind)
    visitor.http.timeout = 0.5 if seen is httpx.ReadTimeout else 10
    if isinstance(seen, int):
        answer = visitor.activate("755224")
        assert (answer.status_code, answer.headers.get("Retry-After")) == (seen, "9" if seen == 503 else None)
        assert answer.text.startswith("<!doctype") is (kind != "drip")
    else:
        with pytest.raises(seen):
            visitor.activate("755224")
    visitor.http.timeout = 10
    entry = last(visitor)
    assert (entry.fault, entry.took_effect, entry.outcome) == (kind, is_active, "ACTIVE" if is_active else None)
    assert entry.status == (seen if isinstance(seen, int) else None)
    assert entry.client_gone is (seen is httpx.ReadTimeout)
    assert (visitor.read().json()["status"] == "ACTIVE") is is_active
    if kind == "reset_late":
        assert entry.effect_at - entry.arrived_at >= 0.2


def test_a_dripping_body_ends_when_its_client_goes(visitor):
    visitor.seed_device()
    visitor.simulation.change({"drip_interval": 0.02})
    order(visitor, "drip", "read")
    with visitor.http.stream("GET", visitor.path()) as answer:
        assert next(answer.iter_raw(1)) == b"{"
    assert (last(visitor).status, last(visitor).client_gone) == (200, True)


def test_a_client_that_leaves_while_it_waits_does_not_undo_its_activation(visitor):
    visitor.seed_device()
    visitor.simulation.change({"latency": 2.0})
    visitor.http.timeout = 0.5
    with pytest.raises(httpx.ReadTimeout):
        visitor.activate("755224")
    visitor.http.timeout = 10
    entry = last(visitor)
    assert (entry.outcome, entry.took_effect, entry.status, entry.client_gone) == ("ACTIVE", True, None, True)


def test_half_a_request_takes_no_effect_and_is_in_the_call_log(visitor):
    visitor.seed_device()
    host, port = visitor.url.removeprefix("http://").split(":")
    head = (
        f"POST {visitor.path()} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 30\r\n"
        "Content-Type: application/vnd.pingidentity.device.activate+json\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + b'{"otp": "755224"')
        wait_until(visitor.entries, 10, "the call has arrived")
    entry = last(visitor)
    assert (entry.operation, entry.client_gone, entry.took_effect, entry.status) == ("activate", True, False, None)


def test_a_server_that_stops_ends_calls_that_hang(caplog):
    simulation = WatchedSimulation(WatchedSettings(faults={"hang_before": 1}, fault_operations=("access_token",)))
    with running(simulation) as url:
        host, port = url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        grant = f"POST /as/token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        client.sendall(grant.encode())
        wait_until(lambda: simulation.call_log.counts()["open"], 10, "the call hangs")
    with client:
        assert client.recv(1) == b""
    assert (simulation.call_log.counts()["open"], caplog.records) == (0, [])


def test_who_connects_while_the_simulator_stops_is_cut_off(monkeypatch):
    received, stop = [], uvicorn.Server.shutdown

    async def connect_and_stop(server, sockets):
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        received.append(await asyncio.wait_for(reader.read(), timeout=10))
        writer.close()
        await stop(server, sockets)

    monkeypatch.setattr(uvicorn.Server, "shutdown", connect_and_stop)
    with running(WatchedSimulation()):
        pass
    assert received == [b""]


def test_the_call_log_tells_what_was_sent_done_and_answered(visitor):
    visitor.seed_device(out_of_step=True)
    visitor.http.headers["X-Ping-External-Transaction-Id"] = "record"
    visitor.activate("755224")
    visitor.activate("287082", True)
    del visitor.http.headers["X-Ping-External-Transaction-Id"]
    visitor.read("users")
    one, two, three = visitor.entries()
    assert (one.method, one.path, one.user_id, one.device_id) == ("POST", visitor.path(), "user", "device")
    assert (one.operation, one.outcome, one.status, one.took_effect) == ("activate", "EXTRA_OTP_REQUIRED", 400, True)
    assert (one.oath_resync, one.detail_code, one.transaction_id) == (None, "EXTRA_OTP_REQUIRED", "record")
    assert (two.outcome, two.status, two.oath_resync, two.took_effect) == ("ACTIVE", 200, True, True)
    assert (three.operation, three.outcome, three.took_effect) == ("find_users", None, False)
    assert one.arrived_at <= one.effect_at <= one.ended_at <= two.arrived_at
    assert one.otp not in (None, "755224", two.otp)
    counts = visitor.simulation.call_log.counts()
    assert counts["operations"] == {"access_token": 1, "activate": 2, "find_users": 1}
    assert (counts["statuses"], counts["otp_posts"]) == ({"200": 3, "400": 1}, 2)
    assert (counts["began_at"], counts["ended_at"]) == (one.arrived_at, three.ended_at)


def test_what_was_made_tells_which_call_made_it(visitor):
    visitor.seed(users=[{"user_id": "user"}], tokens=[{"serial": "FREE1"}])
    visitor.import_tokens({"serialNumber": "MADE1", "secret": SECRET, "type": "HOTP", "otpLength": 6})
    visitor.pair("MADE1")
    job, pairing = visitor.entries()
    told = {what: visitor.http.get(f"/simulator/{what}").json()[what] for what in ("devices", "tokens", "jobs")}
    makers = {each["serial"]: each["made_by"] for each in told["tokens"]}
    assert makers == {"FREE1": None, "MADE1": job.number}
    assert [(each["serial"], each["made_by"]) for each in told["devices"]] == [("MADE1", pairing.number)]
    assert (job.serial_numbers, job.job_id) == (["MADE1"], told["jobs"][0]["job_id"])
    assert pairing.serial_number == "MADE1"


def test_wrong_json_for_the_control_api_is_refused_without_what_it_holds(visitor):
    refused = visitor.send("POST", "/simulator/world", {"devices": [{"serial": "MADE1", "secret": "no c0ffee"}]})
    assert (refused.status_code, "devices" in refused.text, "c0ffee" in refused.text) == (400, True, False)


def pair_and_look(visitor):
    """What a pairing of a free token answers, and what a read of its device."""
    made = visitor.pair("FREE1", status="ACTIVE")
    return [made.status_code, made.json().get("status"), visitor.codes(visitor.pair("NONE1"))[:2]]


def import_and_read(visitor):
    """What a job answers, and what reads of its end do."""
    posted = visitor.import_tokens({"serialNumber": "MADE9", "secret": SECRET, "type": "HOTP", "otpLength": 6})
    read, *later = (visitor.http.get(posted.headers["Location"]) for _ in range(2))
    return [posted.status_code, bool(posted.content), read.json()["result"], later[0].status_code]


def look(visitor):
    """What a read of a device, of its token and of the capabilities show."""
    token, capabilities = visitor.inventory()["MADE1"], visitor.read("capabilities").json()
    both = visitor.read("oathTokens", filter='serialNumber eq "MADE1"', expand="devices")
    serial = visitor.read().json().get("serialNumber")
    return [serial, "devices" in token, both.status_code, "canUseOATHToken" in capabilities]


def activate(visitor):
    answer = visitor.activate("755224")
    return [answer.status_code, answer.json().get("status")]


def read_new_device(visitor):
    """Whether what a pairing made is read, listed, and shown by the inventory; and activated."""
    device_id = visitor.pair("FREE1").json()["id"]
    listed = [each["id"] for each in visitor.listed("users/user/devices")]
    is_shown = "devices" in visitor.inventory()["FREE1"]
    read = visitor.read(f"users/user/devices/{device_id}").status_code
    return [read, device_id in listed, is_shown, visitor.activate("755224", device_id=device_id).status_code]


def revoke_all(visitor):
    posted = visitor.revoke_tokens(*(token["id"] for token in visitor.inventory().values()))
    return [visitor.http.get(posted.headers["Location"]).json()["status"], len(visitor.inventory())]


# What comes of it in the product's reading; and in another, with its settings.
READINGS = [
    (pair_and_look, {}, [201, "ACTIVE", (400, "INVALID_DATA")]),
    (
        pair_and_look,
        {"sent_status": "ignored", "unknown_serial": 404},
        [201, "ACTIVATION_REQUIRED", (404, "NOT_FOUND")],
    ),
    (pair_and_look, {"sent_status": "ignored", "pairing_status": "ACTIVE"}, [201, "ACTIVE", (400, "INVALID_DATA")]),
    (pair_and_look, {"sent_status": "refused"}, [400, None, (400, "INVALID_DATA")]),
    (import_and_read, {}, [201, True, {"created": 1, "duplicates": []}, 200]),
    (
        import_and_read,
        {"job_answer": 202, "job_id_in": "location", "no_duplicates": "missing", "job_kept_reads": 1},
        [202, False, {"created": 1}, 404],
    ),
    (look, {}, [None, True, 200, True]),
    (look, {"device_shows_serial_number": True, "expanded_devices": "embedded"}, ["MADE1", False, 200, True]),
    (look, {"expand_with_filter": False, "capabilities_filled": False}, [None, True, 400, False]),
    (activate, {}, [200, "ACTIVE"]),
    (activate, {"activation_body": "no_status"}, [200, None]),
    (activate, {"forbidden_groups": ["mfa"]}, [403, None]),
    (read_new_device, {}, [200, True, True, 200]),
    (read_new_device, {"device_read_lag": 60, "inventory_read_lag": 60}, [404, False, False, 200]),
    (revoke_all, {}, ["FAILED", 2]),
    (revoke_all, {"revoke_paired": "skipped"}, ["DONE", 1]),
]


@pytest.mark.parametrize(
    ("act", "settings", "expected"), READINGS, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_what_is_open_is_played_both_ways(visitor, act, settings, expected):
    visitor.seed_device()
    visitor.seed(tokens=[{"serial": "FREE1", "secret": SECRET}])
    visitor.simulation.change(settings)
    assert act(visitor) == expected


def test_a_token_that_is_paired_may_answer_409(visitor):
    visitor.seed_device()
    visitor.simulation.change({"paired_serial": 409})
    assert visitor.codes(visitor.pair("MADE1")) == (409, "REQUEST_FAILED", "UNIQUENESS_VIOLATION", "serialNumber")


def test_a_client_may_have_to_authenticate_in_one_way(visitor):
    visitor.simulation.change({"client_auth": "post"})
    refused = visitor.http.post(
        f"/{ENVIRONMENT_ID}/as/token", data={"grant_type": "client_credentials"}, auth=("c", "s")
    )
    assert refused.status_code == 401


def test_a_device_that_is_made_older_is_deleted_and_a_default_is_promoted(visitor):
    visitor.seed_device()
    for number in (2, 3):
        visitor.seed_device(serial=f"MADE{number}", device_id=f"d{number}", status="ACTIVE")

    def defaults():
        return [
            each["device_id"] for each in visitor.http.get("/simulator/devices").json()["devices"] if each["is_default"]
        ]

    assert defaults() == ["d2"]
    visitor.http.delete(visitor.path("d2"))
    visitor.send("POST", "/simulator/age", {"hours": 25})
    assert (defaults(), visitor.read().status_code) == (["d3"], 404)


def test_a_sign_on_takes_an_otp_of_an_active_device_once(visitor):
    visitor.seed_device(status="ACTIVE", counter=1)
    bodies = [{"device_id": "device", "otp": otp} for otp in ("755224", "359152", "359152")]
    said = [visitor.send("POST", "/simulator/sign-on", body).json()["outcome"] for body in bodies]
    assert said == ["INVALID_OTP", "SIGNED_ON", "INVALID_OTP"]


def test_an_order_hits_the_next_call_that_fits_and_no_other(visitor):
    visitor.seed_device()
    visitor.simulation.faults.orders.append(FaultOrder("error_before", "find_users"))
    statuses = [visitor.read(path).status_code for path in ("mfaSettings", "users", "users")]
    assert (statuses[0], statuses[1] >= 500, statuses[2]) == (200, True, 200)
