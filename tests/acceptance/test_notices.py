"""People are told by a webhook what became of a batch, and that PingOne is away while a box is being prepared. That of
many workers one tells it, and once, is in integration/test_notices.py."""

import hmac
import json

import pytest
from support.data.tokens import make_tokens
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers import stand_in_box
from support.servers.raw_server import RawServer
from support.servers.stand_in import WholeWayStandIn

SECRET = "a secret that nobody guesses"
PAGE = b"<!doctype html><title>Not here</title>"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)


@pytest.fixture
def webhook():
    with RawServer(lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"]) as server:
        yield server


def read(webhook):
    """Each notice as the receiver reads it, whose signature it checks."""
    notices = []
    for request in list(webhook.requests):
        head, _, body = request.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        at, signature = (part.partition("=")[2] for part in headers["X-Oathbulk-Signature"].split(","))
        assert signature == hmac.digest(SECRET.encode(), f"{at}.".encode() + body, "sha256").hex()
        notices.append(json.loads(body))
        assert headers["X-Oathbulk-Notice"] == str(notices[-1]["id"])
    return notices


def test_a_run_tells_once_that_its_batch_is_finished(set_up, webhook):
    tokens = make_tokens(4)
    settings = {"OATHBULK_WEBHOOK_URL": f"{webhook.url}/hook/path", "OATHBULK_WEBHOOK_SECRET": SECRET}
    desk, _ = set_up(tokens, **settings)
    told = [desk.oathbulk("run", "shipment.csv") for _ in range(2)]

    assert [result.code for result in told] == [0, 0]
    assert [notice["text"] for notice in read(webhook)] == ["shipment is finished: 4 of 4 tokens are active."]
    hidden = [SECRET, *(part for token in tokens for part in (token.serial, token.user_id, *token.otps))]
    assert not [part for part in hidden if part.encode() in webhook.requests[0]]
    doctor = desk.oathbulk("doctor").stdout
    (line,) = [line for line in doctor.splitlines() if line.startswith("✓ webhook ")]
    assert f"{webhook.url}, signed; 1 notice delivered, the last one at " in line
    logs = "".join(path.read_text() for path in desk.folder.rglob("*.log"))
    assert not [part for part in (SECRET, "/hook/path") if part in doctor + logs + told[0].stdout + told[0].stderr]


@pytest.mark.faults
def test_a_run_whose_people_cannot_be_looked_up_says_so_and_goes_on_when_pingone_is_there(tmp_path, webhook):
    """What answers in PingOne's place has a page for whatever is asked."""
    tenant = stand_in_box.BoxTenant(stand_in_box.make_tokens(3))
    hook = {"OATHBULK_WEBHOOK_URL": webhook.url, "OATHBULK_WEBHOOK_SECRET": SECRET}
    with (
        RawServer(lambda: [NOT_FOUND]) as proxy,
        WholeWayStandIn(tenant, loses=(), loses_every=10**9) as pingone,
        CommandDesk(tmp_path / "desk", pingone.settings, hook, {"_OATHBULK_TUNING__first_records": "0"}) as desk,
    ):
        stand_in_box.write_box(desk.folder, list(tenant.tokens.values()))
        words = ("box.csv", "--assign", "who.csv", "--import", "--pair", "--offline")
        run = desk.start("run", *words, PINGONE_API_URL=f"{proxy.url}/v1")
        # Each call is tried for up to ten seconds, and the second comes five later.
        wait_until(lambda: "Paused (outage)" in run.stderr, 90, "the run tells the outage")
        line = next(line for line in run.stderr.splitlines() if "Paused (outage)" in line)
        said = (
            "3 wait until their person is found. Paused (outage): PingOne has not answered; the next try",
            "HTTP 404.",
            "look at PINGONE_API_URL, the proxy and the network with `oathbulk doctor`",
        )
        assert [words for words in said if words not in line] == []
        assert desk.oathbulk("status", "box", "--check").code == 5
        wait_until(lambda: read(webhook), 90, "the webhook is told")
        assert [notice["event"] for notice in read(webhook)] == ["paused_for_now"]
        run.interrupt()
        assert run.wait().code == 130

        # It is the same batch, and PingOne is there.
        result = desk.oathbulk("run", "box")
        assert result.code == 0, result.stderr
        assert tenant.active == set(tenant.tokens)
        assert desk.oathbulk("status", "box", "--check").code == 0
