"""`oathbulk desk`: what a person types, the link that it prints, and how it ends."""

import re
import socket
from contextlib import closing, contextmanager

import httpx
import pytest
from support.data.tokens import make_tokens, write_shipment
from support.fleets.real_fleet import BATCH
from support.judges.secret_search import type_otps
from support.processes.command_desk import Running
from support.processes.waiting import wait_until

from worker.embedded.valkey import find_free_port
from worker.simulator.shipment import make_shipment

_LINK = re.compile(r"http://\S+/enter\?key=\S+")


def read_link(running):
    """The latest link that a desk has printed, once it serves."""

    def find():
        assert running.is_alive, running.stderr
        return _LINK.findall(running.stderr)

    return wait_until(find, "the desk prints a link")[-1]


@contextmanager
def browse(link):
    """A browser that has used the link."""
    address, _, _ = link.partition("/enter")
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as browser:
        assert browser.get(link).status_code == 303
        yield browser


def pause(browser, origin, **fields):
    """Send the form of a pause as a page of this origin would."""
    page = browser.get("/batch/pause", params={"name": "shipment"}).text
    form = {"form_key": re.search(r'name="form_key" value="(\w+)"', page)[1]} | fields
    return browser.post("/batch/pause?name=shipment", data=form, headers={"Origin": origin})


@pytest.fixture
def loaded(desk):
    """A folder with a batch that was loaded and never ran."""
    write_shipment(desk.folder / "shipment.csv", make_tokens(3))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    return desk


def test_the_link_lets_one_browser_in_and_the_next_stands_there(loaded):
    running = loaded.start("desk", "--port", "0", OATHBULK_ACTOR="alice")
    link = read_link(running)
    assert link.startswith("http://127.0.0.1:")
    with browse(link) as browser:
        assert "0 of 3" in browser.get("/").text
        assert 'class="who-am-i">alice<' in browser.get("/batch", params={"name": "shipment"}).text
    address = link.partition("/enter")[0]
    for path in ("/", "/enter?key=x", link.removeprefix(address)):
        assert httpx.get(address + path, trust_env=False).status_code == 401
    wait_until(lambda: read_link(running) != link, "the next link is printed")
    with browse(read_link(running)) as browser:
        assert browser.get("/").status_code == 200
    assert running.stdout == ""


def test_a_command_at_the_desk_is_in_the_audit(loaded):
    link = read_link(loaded.start("desk", "--port", "0", OATHBULK_ACTOR="alice"))
    with browse(link) as browser:
        assert pause(browser, "http://evil.example", ticket="CHG-7").status_code == 403
        assert loaded.status()["state"] == "running"
        assert pause(browser, str(browser.base_url).rstrip("/"), ticket="CHG-7").status_code == 303
        assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert loaded.status()["state"] == "paused"
    audited = loaded.oathbulk("audit", "--json")
    (line,) = [line for line in audited.json["lines"] if line["action"] == "pause"]
    assert (audited.code, line["actor"], line["ticket"], line["batch"]) == (0, "alice", "CHG-7", "shipment")


def test_typed_otps_make_a_failed_token_active_and_those_that_do_not_follow_each_other_say_so(
    make_fleet, postgres_url, valkey_url
):
    kinds = {"wrong_otp": 1, "second_otp_missing": 1, "wrong_second_otp": 1}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(5, hopeless=kinds))
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_finished()
    running = fleet.command("desk", "desk", "--port", "0")
    link = wait_until(lambda: _LINK.findall(running.read_log()), "the desk prints a link")[-1]
    fresh = {fleet.shipment.expected[row.serial].reason: row for row in fleet.shipment.fresh}
    with browse(link) as browser:
        for reason, row in fresh.items():
            if reason is None:
                continue
            otps = (row.otp2, row.otp1) if reason == "resync_failed" else (row.otp1, row.otp2)
            assert b"are on their way" in type_otps(browser, BATCH, row.serial, *otps)
            end = "Dead letter: resync failed" if reason == "resync_failed" else "Active"
            page = {"name": BATCH, "serial": row.serial}
            wait_until(lambda: end in browser.get("/batch/otps", params=page).text, end)  # noqa: B023 - called at once


def test_ctrl_c_ends_it_at_once_whoever_is_connected(loaded):
    running = loaded.start("desk", "--port", "0")
    link = read_link(running)
    port = httpx.URL(link).port
    with browse(link) as browser, closing(socket.create_connection(("127.0.0.1", port))) as slow:
        origin = f"127.0.0.1:{port}"
        (cookie,) = (f"{name}={value}" for name, value in browser.cookies.items())
        headers = f"Host: {origin}\r\nOrigin: http://{origin}\r\nCookie: {cookie}\r\nContent-Length: 99"
        # Of a form whose end does not come.
        slow.sendall(f"POST /batch/pause?name=shipment HTTP/1.1\r\n{headers}\r\n\r\nform_key=".encode())
        assert browser.get("/").status_code == 200
        running.interrupt()
        result = running.wait()
    assert result.code in (0, 130)
    assert "Traceback" not in result.stderr


def test_behind_a_proxy_the_header_names_who_comes(loaded):
    port = find_free_port()
    proxied = ("--user-header", "X-Forwarded-User", "--origin", "HTTPS://Desk.example.com:443/")
    running = loaded.start("desk", "--port", str(port), *proxied)
    wait_until(lambda: "The desk is at" in running.stderr, "the desk serves")
    assert "The desk is at https://desk.example.com, until Ctrl-C." in running.stderr
    assert "key=" not in running.stderr
    headers = {"Host": "desk.example.com", "X-Forwarded-User": "bob"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as browser:
        assert pause(browser, "https://desk.example.com").status_code == 303
        assert browser.get("/", headers={"X-Forwarded-User": ""}).status_code == 401
    lines = loaded.oathbulk("audit", "--json").json["lines"]
    assert [line["actor"] for line in lines if line["action"] == "pause"] == ["bob"]


@pytest.mark.parametrize(("command", "end"), [("desk", Running.terminate), ("metrics", Running.interrupt)])
def test_what_serves_until_it_is_told_to_end_ends_well(loaded, command, end):
    running = loaded.start(command, "--port", "0")
    # It serves from now on, or will in a moment: what is printed comes last before that.
    wait_until(lambda: "until Ctrl-C" in running.stderr, "it says where it serves")
    (address,) = set(re.findall(r"http://127\.0\.0\.1:\d+", running.stderr))
    wait_until(lambda: is_served(address), "it serves")
    end(running)
    result = running.wait()
    assert (result.code, "Traceback" in result.stderr) == (0, False)


def is_served(address):
    try:
        return httpx.get(address, trust_env=False, timeout=60)
    except httpx.TransportError:
        return None
