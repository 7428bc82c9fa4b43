"""Calls that a fault or a client that hangs up disturbs: what the client sees, what happens to the device, and what the
call log says."""

import asyncio
import json
import socket
import time

import httpx
import pytest
import uvicorn
from support.processes.waiting import wait_until

from worker.simulator.server import running
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation


def last(visitor):
    return visitor.entries()[-1]


def order(visitor, kind, operation="activate"):
    """Order this fault for the next call for the operation."""
    answer = visitor.http.post("/simulator/faults", json=[{"kind": kind, "operation": operation}])
    assert answer.status_code == 200


def status(visitor):
    return visitor.simulation.world.find_by_id("device").status


@pytest.mark.parametrize(("kind", "is_active"), [("reset_before", False), ("reset_after", True)])
def test_a_reset_is_a_reset_and_the_call_log_knows_whether_it_took_effect(visitor, kind, is_active):
    visitor.seed()
    order(visitor, kind)
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        visitor.activate("111111")
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    entry = last(visitor)
    assert (entry.fault, entry.took_effect, entry.status, entry.client_gone) == (kind, is_active, None, False)
    assert (status(visitor) == "ACTIVE") is is_active
    assert visitor.read().status_code == 200


def test_a_late_effect_comes_after_the_reset(visitor):
    visitor.seed()
    visitor.simulation.change({"late_effect_after": 0.2})
    order(visitor, "reset_late")
    with pytest.raises(httpx.ReadError):
        visitor.activate("111111")
    assert status(visitor) == "ACTIVATION_REQUIRED"
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    assert status(visitor) == "ACTIVE"
    assert last(visitor).effect_at - last(visitor).arrived_at >= 0.2


@pytest.mark.parametrize(("kind", "is_active"), [("error_before", False), ("error_after", True)])
def test_an_error_hides_whether_the_device_is_active(visitor, kind, is_active):
    visitor.seed()
    visitor.simulation.change({"error_statuses": [503], "error_html_share": 1, "error_retry_after": 9})
    order(visitor, kind)
    answer = visitor.activate("111111")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "9")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert (last(visitor).status, last(visitor).took_effect) == (503, is_active)
    assert (status(visitor) == "ACTIVE") is is_active


@pytest.mark.parametrize(("kind", "is_active"), [("hang_before", False), ("hang_after", True)])
def test_a_call_hangs_until_its_client_goes(visitor, kind, is_active):
    visitor.seed()
    order(visitor, kind)
    with pytest.raises(httpx.ReadTimeout):
        visitor.http.post(
            visitor.path(),
            content=json.dumps({"otp": "111111"}),
            headers={"Content-Type": "application/vnd.pingidentity.device.activate+json"},
            timeout=0.5,
        )
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    entry = last(visitor)
    assert (entry.status, entry.client_gone, entry.took_effect) == (None, True, is_active)
    assert (status(visitor) == "ACTIVE") is is_active


def test_a_dripping_body_arrives_whole_for_the_patient(visitor):
    visitor.seed()
    visitor.simulation.change({"drip_interval": 0.0001})
    order(visitor, "drip")
    assert visitor.activate("111111").json()["status"] == "ACTIVE"
    assert (last(visitor).status, last(visitor).client_gone) == (200, False)


def test_a_dripping_body_ends_when_its_client_goes(visitor):
    visitor.seed()
    visitor.simulation.change({"drip_interval": 0.02})
    order(visitor, "drip", "read")
    with visitor.http.stream("GET", visitor.path()) as answer:
        assert next(answer.iter_raw(1)) == b"{"
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    assert (last(visitor).status, last(visitor).client_gone) == (200, True)


def test_a_garbled_answer_is_a_web_page(visitor):
    visitor.seed()
    order(visitor, "garbled")
    answer = visitor.activate("111111")
    assert (answer.status_code, answer.content[:9]) == (200, b"<!doctype")
    assert status(visitor) == "ACTIVE"


@pytest.mark.parametrize(("used_up", "status_code"), [(False, 200), (True, 400)])
def test_a_lost_otp_is_used_up_in_one_reading_only(visitor, used_up, status_code):
    visitor.seed()
    visitor.simulation.change({"lost_otp_used_up": used_up})
    order(visitor, "reset_before")
    with pytest.raises(httpx.ReadError):
        visitor.activate("111111")
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    assert last(visitor).took_effect is used_up
    assert status(visitor) == "ACTIVATION_REQUIRED"
    assert visitor.activate("111111").status_code == status_code


def test_a_client_that_leaves_while_it_waits_does_not_undo_its_activation(visitor):
    visitor.seed()
    visitor.simulation.change({"latency": 2.0})
    with pytest.raises(httpx.ReadTimeout):
        visitor.http.post(
            visitor.path(),
            content=json.dumps({"otp": "111111"}),
            headers={"Content-Type": "application/vnd.pingidentity.device.activate+json"},
            timeout=0.5,
        )
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    entry = last(visitor)
    assert (entry.outcome, entry.took_effect, entry.status, entry.client_gone) == ("ACTIVE", True, None, True)
    assert status(visitor) == "ACTIVE"


def test_half_a_request_takes_no_effect_and_is_in_the_call_log(visitor):
    visitor.seed()
    host, port = visitor.url.removeprefix("http://").split(":")
    head = (
        f"POST {visitor.path()} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 30\r\n"
        "Content-Type: application/vnd.pingidentity.device.activate+json\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + b'{"otp": "111111"')
        wait_until(visitor.entries, 10, "the call has arrived")
    wait_until(lambda: last(visitor).ended_at, 10, "the call has ended")
    entry = last(visitor)
    assert (entry.operation, entry.client_gone, entry.took_effect, entry.status) == ("activate", True, False, None)


def test_a_share_of_all_calls_is_hit_reads_too(visitor):
    visitor.seed()
    visitor.simulation.change({"faults": {"error_before": 1}, "error_statuses": [502]})
    assert visitor.read().status_code == 502
    assert visitor.activate("111111").status_code == 502
    visitor.simulation.change({"faults": {}})
    assert visitor.read().status_code == 200


def test_latency_delays_every_answer(visitor):
    visitor.seed()
    visitor.simulation.change({"latency": 0.1})
    began = time.monotonic()
    visitor.read()
    assert time.monotonic() - began >= 0.1


def test_a_server_that_stops_ends_calls_that_hang(caplog):
    simulation = Simulation(Settings(faults={"hang_before": 1}, fault_operations=("access_token",)))
    with running(simulation) as url:
        host, port = url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(b"POST /as/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: simulation.call_log.counts()["open"], 10, "the call hangs")
    with client:
        assert client.recv(1) == b""
    assert simulation.call_log.counts()["open"] == 0
    assert caplog.records == []


def test_who_connects_while_the_simulator_stops_is_cut_off(monkeypatch):
    received, stop = [], uvicorn.Server.shutdown

    async def connect_and_stop(server, sockets):
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        received.append(await asyncio.wait_for(reader.read(), timeout=10))
        writer.close()
        await stop(server, sockets)

    monkeypatch.setattr(uvicorn.Server, "shutdown", connect_and_stop)
    with running(Simulation(Settings())):
        pass
    assert received == [b""]
