"""`oathbulk run` on a box while PingOne is away or replaced by a proxy, while people are looked up."""

import json

import pytest
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers.raw_server import RawServer
from support.servers.stand_in import WholeWayStandIn
from support.servers.stand_in_box import BoxTenant, make_tokens, write_box

# Offline: what a preflight would say of it, test_preflight.py looks at.
WORDS = ("box.csv", "--assign", "who.csv", "--import", "--pair", "--offline")
PAGE = b"<!doctype html><title>Not here</title>"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)
# Seconds: each call is tried for up to ten, and the second comes five later.
PATIENCE = 90


@pytest.fixture
def webhook():
    with RawServer(lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"]) as server:
        yield server


@pytest.fixture
def proxy():
    """What answers with a page to whatever is asked."""
    with RawServer(lambda: [NOT_FOUND]) as server:
        yield server


def read_events(webhook):
    return [json.loads(request.partition(b"\r\n\r\n")[2])["event"] for request in list(webhook.requests)]


@pytest.mark.faults
@pytest.mark.parametrize("is_page", [False, True], ids=["nobody listens", "a page"])
def test_a_run_whose_people_cannot_be_looked_up_says_so_and_goes_on_when_pingone_is_there(
    tmp_path, webhook, proxy, is_page
):
    tenant = BoxTenant(make_tokens(3))
    told = {
        "OATHBULK_WEBHOOK_URL": webhook.url,
        "OATHBULK_WEBHOOK_SECRET": "s" * 32,
        "_OATHBULK_TUNING__first_records": "0",
    }
    with (
        WholeWayStandIn(tenant, loses=(), loses_every=10**9) as pingone,
        CommandDesk(tmp_path / "desk", pingone.settings, told) as desk,
    ):
        write_box(desk.folder, list(tenant.tokens.values()))
        elsewhere = f"{proxy.url}/v1" if is_page else "http://127.0.0.1:1/v1"
        run = desk.start("run", *WORDS, PINGONE_API_URL=elsewhere)
        wait_until(lambda: "Paused (outage)" in run.stderr, PATIENCE, "the run tells the outage")
        line = next(line for line in run.stderr.splitlines() if "Paused (outage)" in line)
        assert "3 wait until their person is found. Paused (outage): PingOne has not answered; the next try" in line
        assert ("HTTP 404." if is_page else "Connection refused.") in line
        assert "look at PINGONE_API_URL, the proxy and the network with `oathbulk doctor`" in line

        status = desk.oathbulk("status", "box", "--check")
        assert status.code == 5
        assert "PingOne has not answered" in " ".join(status.stdout.split())
        wait_until(lambda: read_events(webhook) == ["paused_for_now"], PATIENCE, "the webhook is told, once")
        run.interrupt()
        assert run.wait().code == 130

        # It is the same batch, and PingOne is there.
        result = desk.oathbulk("run", "box")
        assert result.code == 0, result.stderr
        assert tenant.active == set(tenant.tokens)
        assert desk.oathbulk("status", "box", "--check").code == 0
