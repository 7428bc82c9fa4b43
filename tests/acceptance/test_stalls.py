"""Whatever keeps due work from moving is named with what mends it, and `status --check` ends with 5. A worker that
fails where others do not ends, and the batch goes on without it."""

from urllib.parse import urlsplit

import pytest
from chaos.links import Link, Network
from sqlalchemy import update
from support.fleets.real_fleet import BATCH, PATIENT, Fleet

from models.batch import Batch
from models.encrypted import generate_key
from models.record import Record
from worker.fleet import FAILS_ALONE, KnownProcess, read_processes
from worker.reports.stall import STILL_AFTER
from worker.simulator.shipment import make_shipment

STALLED = 5
SICKNESSES = {
    # Nobody listens there.
    "network": {"PINGONE_API_URL": "http://127.0.0.1:1/v1"},
    "internal": {"OATHBULK_ENCRYPTION_KEYS": generate_key()},
    "credentials": {"PINGONE_CLIENT_SECRET": "wrong"},
    "environment": {"PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"},
    "no secret": {"PINGONE_CLIENT_SECRET": ""},
    "authorities that are no file": {"SSL_CERT_FILE": "/nowhere/ca.pem"},
}
# What becomes of the way to PingOne.
TROUBLES = {"refused": Link.cut, "closed unanswered": Link.hang_up}
AWAY = "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none"


def look(fleet, **variables: str) -> tuple[int, str]:
    """The exit code of `status --check`, and what it says."""
    program = fleet.command(f"status-{len(fleet.programs)}", "status", BATCH, "--check", **variables)
    code = program.wait()
    return code, " ".join(program.read_log().split())


def test_whoever_is_missing_is_named_with_what_brings_them(make_fleet, postgres_url, valkey_url):
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(20, hopeless={}))
    assert look(fleet)[0] == 0
    # As if all that is due had waited for long.
    before = fleet.database.now(-STILL_AFTER - 30)
    with fleet.database.writing() as connection:
        connection.execute(update(Batch).values(running_since=before))
        connection.execute(update(Record).values(scheduled_at=before))

    def expect(code: int, *words: str, **variables: str) -> None:
        found, told = look(fleet, **variables)
        assert (found, [word for word in words if word not in told]) == (code, []), told
        assert "hidden" not in told

    expect(STALLED, "No worker runs.", "celery -A worker worker")
    expect(STALLED, "The broker cannot be used", "oathbulk doctor", OATHBULK_REDIS_URL="redis://:hidden@127.0.0.1:1/0")
    expect(3, "the database failed", "OATHBULK_DATABASE_URL", OATHBULK_DATABASE_URL=AWAY)
    worker = fleet.worker("worker")
    fleet.wait_until(lambda: fleet.status().fleet.alive, "a worker shows that it lives")
    expect(STALLED, "No tick ever came.", "celery -A worker beat")
    # Before it is ready, a signal ends it without a word; in good order, it is missed at once.
    fleet.wait_until(lambda: " ready." in worker.read_log(), "it is ready")
    worker.stop()
    fleet.wait_until(lambda: not fleet.status().fleet.alive, "it is gone", timeout=15)
    # One that waits for a person is told by another code, and a resume that nobody carries out says so.
    fleet.batches.pause(BATCH)
    expect(4, f"oathbulk resume {BATCH}")
    told = " ".join(fleet.oathbulk("resume", "resume", BATCH).split())
    assert told.startswith(f"{BATCH} may run, but nothing works on it. No worker runs.")


def read_fleet(fleet: Fleet) -> list[KnownProcess]:
    with fleet.database.reading() as connection:
        return read_processes(fleet.database, connection)


@pytest.mark.faults
def test_a_worker_that_fails_alone_ends_and_is_named_and_the_others_do_the_work(
    make_fleet, postgres_url, valkey_url
) -> None:
    """All of it befalls one batch, which is large enough. A worker that reaches PingOne by a way of its own, on which
    something goes wrong for a while, works again when it is started and well."""
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(4000, hopeless={}), settings=settings)
    fleet.worker("well")
    fleet.beat()
    fleet.wait_until_posted(10)
    sick = {what: fleet.worker(what.split()[0], **variables) for what, variables in SICKNESSES.items()}
    for what, worker in sick.items():
        assert worker.wait() == FAILS_ALONE
        (named,) = [each for each in read_fleet(fleet) if each.name.endswith(f":{worker.pid}")]
        assert named.reason == (what if " " not in what else "environment")
        assert (named.detail or "") in worker.read_log()
        assert "Traceback" not in worker.read_log()

    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        variables = {"PINGONE_API_URL": f"http://127.0.0.1:{link.port}/v1"}
        for trouble, befall in TROUBLES.items():
            worker = fleet.worker(f"before-{trouble.split()[0]}", **variables)
            name = f":{worker.pid}"
            fleet.wait_until(lambda name=name: any(each.name.endswith(name) for each in read_fleet(fleet)), "it works")
            befall(link)
            assert worker.wait() == FAILS_ALONE
            # Before it is well it ends before it takes anything.
            assert fleet.worker(f"while-{trouble.split()[0]}", **variables).wait() == FAILS_ALONE
            link.heal()
        assert fleet.status().state == "running"
        posts = fleet.simulator.posts()
        fleet.wait_until_posted(posts + 50)
        fleet.batches.cancel(BATCH)
        assert fleet.wait_until_finished().dead_letters == {}
        fleet.judge()


@pytest.mark.faults
def test_an_outage_ends_no_worker_that_is_alone(make_fleet, postgres_url, valkey_url) -> None:
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(60, hopeless={}))
    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        alone = fleet.worker("alone", PINGONE_API_URL=f"http://127.0.0.1:{link.port}/v1")
        fleet.beat()
        fleet.wait_until_posted(10)
        link.hang_up()
        fleet.wait_until(lambda: fleet.status().reason == "outage", "the outage is told")
        link.heal()
        fleet.wait_until_finished()
        assert alone.is_running
        assert not [each for each in read_fleet(fleet) if each.sick_since]
