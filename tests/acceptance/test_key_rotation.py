"""Keys and credentials are changed as docs/operating.md says it, while workers work: no record is lost and no OTP
wasted. And what a wrong key costs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.processes.program import Program
from support.simulator.simulation import WatchedSeed

from models.encrypted import generate_key
from worker.simulator.shipment import make_shipment

SLOW = PATIENT | {"PINGONE_RATE": "12", "PINGONE_RATE_MAX": "12"}
# Slow enough for changes in the midst of it.
RECORDS = 300
STEADY = PATIENT | {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}


@pytest.mark.faults
def test_a_wrong_key_spends_no_otp_and_the_right_one_is_changed_while_workers_work(
    make_fleet, postgres_url, valkey_url
) -> None:
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(120, out_of_step=0.2), settings=SLOW)
    old, new = fleet.encryption_key, generate_key()
    fleet.beat()
    wrong = fleet.worker("wrong", OATHBULK_ENCRYPTION_KEYS=new)
    fleet.wait_until(lambda: fleet.status().reason == "internal", "the batch is paused")
    missing = "is not among OATHBULK_ENCRYPTION_KEYS: add it after the first"
    assert (fleet.simulator.posts(), missing in (fleet.status().detail or "")) == (0, True)
    wrong.stop()
    fleet.batches.resume(BATCH)
    before = fleet.worker("before")
    fleet.wait_until_posted(5)

    # First the workers get both keys, each in its turn.
    both = fleet.worker("both", OATHBULK_ENCRYPTION_KEYS=f"{new},{old}")
    before.stop()
    fleet.variables["OATHBULK_ENCRYPTION_KEYS"] = f"{new},{old}"
    told = fleet.oathbulk("reencrypt", "db", "reencrypt")
    assert int(re.search(r"(\d+) records are encrypted with the first key now", told)[1]) > 0
    # Then the old one goes.
    fleet.worker("after", OATHBULK_ENCRYPTION_KEYS=new)
    both.stop()
    fleet.judge_as_made()


def write(path: Path, content: str) -> Path:
    """Replace a file that others may not read, at one stroke, as a person should who changes a secret."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.chmod(0o600)
    return new.rename(path)


def change_at_pingone(fleet: Fleet, **change: object) -> None:
    """Let PingOne change what it knows of the client, and take back its access tokens."""
    fleet.simulator.seed(client_id=fleet.shipment.world.client_id, **change)
    fleet.simulator.revoke_access_tokens()


def is_idle(worker: Program) -> bool:
    """Whether a worker has ended every attempt that it took up."""
    tasks = re.findall(r"oathbulk\.activate\[\S+\] (received|succeeded)", worker.read_log())
    return tasks.count("received") == tasks.count("succeeded")


@pytest.mark.faults
def test_a_secret_that_is_changed_while_workers_run_is_used_and_one_that_is_refused_pauses_the_batch(
    make_fleet, postgres_url, valkey_url, tmp_path
):
    settings = STEADY | {"PINGONE_CLIENT_AUTH": "secret_jwt"}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(RECORDS), settings=settings, client_auth="secret_jwt")
    secret = write(tmp_path / "client_secret", fleet.shipment.world.client_secret)
    from_file = {"PINGONE_CLIENT_SECRET": "", "PINGONE_CLIENT_SECRET_FILE": str(secret)}
    worker = fleet.worker("one", **from_file)
    fleet.beat()
    fleet.wait_until_posted(1)
    write(secret, "a second secret of PingOne")
    fleet.wait_until_posted(60)
    change_at_pingone(fleet, client_secret="a second secret of PingOne")
    fleet.wait_until_posted(120)
    assert fleet.status().state == "running"
    assert "credentials_changed" in worker.read_log()

    change_at_pingone(fleet, client_secret="a third secret of PingOne")
    fleet.wait_until(lambda: fleet.status().state == "paused", "it pauses")
    assert fleet.status().reason == "credentials"
    # Each record in hand meets the refusal by itself, and would pause the batch once more.
    fleet.wait_until(lambda: is_idle(worker), "nothing is in hand")
    write(secret, "a third secret of PingOne")
    fleet.batches.resume(BATCH)

    status = fleet.wait_until_finished()
    # Each OTP was acted on once. Those that arrived with an access token of before were not acted on.
    assert (status.counts["active"], status.otp_posts) == (RECORDS, RECORDS + status.resynced)
    fleet.judge()
    assert "secret of PingOne" not in worker.read_log()


@pytest.mark.faults
def test_a_private_key_that_is_changed_while_workers_run_is_used_from_then_on(
    make_fleet, postgres_url, valkey_url, tmp_path
):
    old, new = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
    keys = [{"keys": [key.as_dict(private=False) | {"kid": key.thumbprint()}]} for key in (old, new)]
    made = make_shipment(RECORDS)
    shipment = replace(made, world=WatchedSeed.model_validate(made.world.model_dump() | {"client_jwks": keys[0]}))
    key = write(tmp_path / "private_key.pem", old.as_pem(private=True).decode())
    settings = STEADY | {"PINGONE_CLIENT_AUTH": "private_key_jwt", "PINGONE_PRIVATE_KEY_FILE": str(key)}
    fleet = make_fleet(postgres_url, valkey_url, shipment, settings=settings, client_auth="private_key_jwt")
    worker = fleet.worker("one", PINGONE_CLIENT_SECRET="")
    fleet.beat()
    fleet.wait_until_posted(1)
    write(key, new.as_pem(private=True).decode())
    fleet.wait_until_posted(60)
    change_at_pingone(fleet, client_jwks=keys[1])
    status = fleet.wait_until_finished()
    assert (status.counts["active"], status.otp_posts) == (RECORDS, RECORDS + status.resynced)
    fleet.judge()
    said = worker.read_log()
    assert "credentials_changed" in said
    of_keys = [key.as_dict(private=True)["d"][:40] for key in (old, new)]
    of_keys += [key.as_pem(private=True).decode().splitlines()[5] for key in (old, new)]
    assert [part for part in of_keys if part in said] == []
