"""Credentials that are changed while workers run: they go on with the new ones, lose no record and waste no OTP."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.processes.program import Program
from support.simulator.simulation import WatchedSeed

from worker.simulator.shipment import make_shipment

RECORDS = 400
SLOW = PATIENT | {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}


def write(path: Path, content: str) -> Path:
    """Replace a file that others may not read, at one stroke, as a person should who changes a secret."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.chmod(0o600)
    return new.rename(path)


def finish_after_a_change(fleet: Fleet, change: dict[str, object]) -> None:
    """Let PingOne change what it knows of the client in the midst of the batch, take back its access tokens, and wait
    for the end."""
    fleet.wait_until_posted(60)
    fleet.simulator.seed(client_id=fleet.shipment.world.client_id, **change)
    fleet.simulator.revoke_access_tokens()
    status = fleet.wait_until_finished()
    assert status.counts["active"] == RECORDS
    # Each OTP was acted on once. Those that arrived with an access token of before were not acted on.
    assert status.otp_posts == RECORDS + status.resynced
    fleet.judge()


@pytest.mark.faults
@pytest.mark.parametrize("client_auth", ["basic", "secret_jwt"])
def test_a_secret_that_is_changed_while_workers_run_is_used_from_then_on(
    make_fleet, postgres_url, valkey_url, tmp_path, client_auth
):
    settings = SLOW | {"PINGONE_CLIENT_AUTH": client_auth}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(RECORDS), settings=settings, client_auth=client_auth)
    secret = write(tmp_path / "client_secret", fleet.shipment.world.client_secret)
    from_file = {"PINGONE_CLIENT_SECRET": "", "PINGONE_CLIENT_SECRET_FILE": str(secret)}
    workers = [fleet.worker(name, **from_file) for name in ("one", "two")]
    fleet.beat()
    fleet.wait_until_posted(1)
    write(secret, "another secret of PingOne")
    finish_after_a_change(fleet, {"client_secret": "another secret of PingOne"})
    said = "".join(worker.read_log() for worker in workers)
    assert "credentials_changed" in said
    assert "another secret" not in said


def public(*keys: RSAKey) -> dict[str, object]:
    return {"keys": [key.as_dict(private=False) | {"kid": key.thumbprint()} for key in keys]}


@pytest.mark.faults
def test_a_private_key_that_is_changed_while_workers_run_is_used_from_then_on(
    make_fleet, postgres_url, valkey_url, tmp_path
):
    old, new = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
    made = make_shipment(RECORDS)
    shipment = replace(made, world=WatchedSeed.model_validate(made.world.model_dump() | {"client_jwks": public(old)}))
    settings = SLOW | {"PINGONE_CLIENT_AUTH": "private_key_jwt"}
    key = write(tmp_path / "private_key.pem", old.as_pem(private=True).decode())
    settings["PINGONE_PRIVATE_KEY_FILE"] = str(key)
    fleet = make_fleet(postgres_url, valkey_url, shipment, settings=settings, client_auth="private_key_jwt")
    worker = fleet.worker("one", PINGONE_CLIENT_SECRET="")
    fleet.beat()
    fleet.wait_until_posted(1)
    write(key, new.as_pem(private=True).decode())
    finish_after_a_change(fleet, {"client_jwks": public(new)})
    said = worker.read_log()
    assert "credentials_changed" in said
    for secret in (old, new):
        assert secret.as_dict(private=True)["d"][:40] not in said
        assert secret.as_pem(private=True).decode().splitlines()[5] not in said


def is_idle(worker: Program) -> bool:
    """Whether a worker has ended every attempt that it took up."""
    tasks = re.findall(r"oathbulk\.activate\[\S+\] (received|succeeded)", worker.read_log())
    return tasks.count("received") == tasks.count("succeeded")


@pytest.mark.faults
def test_a_secret_that_is_refused_for_good_pauses_the_batch_and_once_replaced_lets_it_go_on(
    make_fleet, postgres_url, valkey_url, tmp_path
):
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(RECORDS), settings=SLOW)
    secret = write(tmp_path / "client_secret", fleet.shipment.world.client_secret)
    worker = fleet.worker("one", PINGONE_CLIENT_SECRET="", PINGONE_CLIENT_SECRET_FILE=str(secret))
    fleet.beat()
    fleet.wait_until_posted(60)
    fleet.simulator.seed(client_id=fleet.shipment.world.client_id, client_secret="another secret of PingOne")
    fleet.simulator.revoke_access_tokens()
    fleet.wait_until(lambda: fleet.status().state == "paused", "it pauses")
    assert fleet.status().reason == "credentials"
    # Each record in hand meets the refusal by itself, and would pause the batch once more.
    fleet.wait_until(lambda: is_idle(worker), "nothing is in hand")
    write(secret, "another secret of PingOne")
    fleet.batches.resume(BATCH)
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()
