"""People are told by a webhook what became of a batch: by `oathbulk run`, and by a fleet of workers."""

import hmac
import json

import pytest
from support.data.tokens import make_tokens
from support.fleets.real_fleet import BATCH, PATIENT
from support.processes.waiting import wait_until
from support.servers.raw_server import RawServer

from worker.simulator.shipment import make_shipment

SECRET = "a secret that nobody guesses"


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
    notices = read(webhook)
    assert [notice["text"] for notice in notices] == ["shipment is finished: 4 of 4 tokens are active."]
    hidden = [SECRET, *(part for token in tokens for part in (token.serial, token.user_id, *token.otps))]
    assert not [part for part in hidden if part.encode() in webhook.requests[0]]
    doctor = desk.oathbulk("doctor").stdout
    (line,) = [line for line in doctor.splitlines() if line.startswith("✓ webhook ")]
    assert f"{webhook.url}, signed; 1 notice delivered, the last one at " in line
    logs = "".join(path.read_text() for path in desk.folder.rglob("*.log"))
    assert not [part for part in (SECRET, "/hook/path") if part in doctor + logs + told[0].stdout + told[0].stderr]


@pytest.mark.faults
def test_a_run_goes_on_where_the_webhook_is_not_there_and_tells_later(set_up, webhook):
    desk, _ = set_up(make_tokens(2), OATHBULK_WEBHOOK_SECRET=SECRET)
    result = desk.oathbulk("run", "shipment.csv", "--json", OATHBULK_WEBHOOK_URL="http://127.0.0.1:1/")
    assert result.code == 0
    assert result.json["state"] == "finished"
    failing = desk.oathbulk("doctor", OATHBULK_WEBHOOK_URL="http://127.0.0.1:1/")
    (line,) = [line for line in failing.stdout.splitlines() if line.startswith("✗ webhook ")]
    assert "http://127.0.0.1:1, signed; " in line

    def told():
        desk.oathbulk("run", "shipment.csv", OATHBULK_WEBHOOK_URL=webhook.url)
        return read(webhook)

    notices = wait_until(told, 60, "the notice is due again")
    assert [notice["event"] for notice in notices] == ["finished"]


def test_a_rehearsal_tells_nobody(set_up, webhook):
    desk, _ = set_up(make_tokens(1), OATHBULK_WEBHOOK_URL=webhook.url)
    assert desk.oathbulk("rehearse", "--tokens", "3").code in (0, 1)
    assert webhook.requests == []


def test_a_fleet_tells_of_a_pause_of_its_end_and_of_the_finished_batch_once_each(
    make_fleet, postgres_url, valkey_url, webhook
):
    settings = PATIENT | {"OATHBULK_WEBHOOK_URL": webhook.url, "OATHBULK_WEBHOOK_SECRET": SECRET}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(40), settings=settings)
    fleet.batches.pause(BATCH)
    fleet.worker("one")
    fleet.worker("two")
    fleet.beat()
    wait_until(lambda: read(webhook), 60, "the pause is told")
    fleet.batches.resume(BATCH)
    fleet.wait_until_finished()
    wait_until(lambda: read(webhook)[-1]["event"] == "finished", 60, "the end is told")

    notices = read(webhook)
    # So small a batch may be finished before anybody sees that it goes on.
    assert [notice["event"] for notice in notices if notice["event"] != "resumed"] == ["paused", "finished"]
    assert len({notice["id"] for notice in notices}) == len(notices)
