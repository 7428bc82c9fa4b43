"""Nothing secret travels: runs with all that makes programs talk, and a search through everything left of them."""

import base64
import json
import random
import re
import secrets
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
import redis
from sqlalchemy import make_url, text, update
from support.fleets.real_fleet import BATCH
from support.judges.secret_search import (
    Monitor,
    Secrets,
    dump_broker,
    dump_postgres,
    look_through_desk,
    look_through_flower,
    read_files,
    wait_until_a_worker_sends_events,
    wait_until_flower_listens,
)
from support.processes.waiting import wait_until

from models.batch import Batch
from worker.embedded.valkey import find_free_port
from worker.simulator.oath import hotp
from worker.simulator.shipment import EXPECTED, MadeShipment, PairRow, make_id
from worker.simulator.world import DeviceSeed, WorldSeed

RECORDS = 80
# Of Flower.
VISITOR = ("visitor", "made-up-password")
# One token was loaded with OTPs that it does not have; its own are typed at the desk in the end.
MISREAD, WRONG = 1, ("97531246", "86421357")
LINK = re.compile(r"http://\S+/enter\?key=\S+")
WEATHER = {"reset_after": 0.05, "error_before": 0.05, "error_after": 0.05, "hang_after": 0.02, "garbled": 0.05}


def make_device(number, dice):
    """A token whose first two OTPs have eight digits, and are no likely part of a time or a number. Every third token
    needs both."""
    while True:
        secret = dice.randbytes(20)
        otps = [hotp(secret, counter, 8) for counter in (0, 1)]
        if all(otp[0] > "1" and "00" not in otp for otp in otps):
            break
    ids = {"user_id": make_id(dice), "device_id": make_id(dice)}
    seed = DeviceSeed(serial=f"MADE{number:07}", secret=secret.hex(), digits=8, out_of_step=number % 3 == 0, **ids)
    return seed, PairRow(seed.serial, *otps, seed.user_id, seed.device_id)


def misread(row):
    return replace(row, otp1=WRONG[0], otp2=WRONG[1])


@pytest.fixture
def shipment():
    dice = random.Random(4226)
    devices, rows = zip(*(make_device(number, dice) for number in range(RECORDS)), strict=True)
    expected = {each.serial: EXPECTED["out_of_step" if each.out_of_step else "in_step"] for each in devices}
    world = WorldSeed(devices=devices, client_secret=secrets.token_urlsafe(24))
    expected[rows[MISREAD].serial] = EXPECTED["wrong_otp"]
    loaded = [misread(row) if place == MISREAD else row for place, row in enumerate(rows)]
    return MadeShipment(tuple(loaded), world, expected, fresh=rows)


@contextmanager
def spoilt_record(database):
    """The last record cannot be decrypted meanwhile: a fault of our own, traceback and all."""
    put = text("UPDATE record SET otps = :otps WHERE id = :id")
    with database.writing() as connection:
        record = connection.execute(text("SELECT id, otps FROM record ORDER BY id DESC LIMIT 1")).one()
        connection.execute(put, {"id": record.id, "otps": b"spoilt"})
    yield
    with database.writing() as connection:
        connection.execute(put, {"id": record.id, "otps": record.otps})


def work(fleet, restart):
    """Everything that makes programs talk: a rough PingOne, refused access tokens, a failure of our own, a server that
    is restarted. What Flower and the desk showed, and the access tokens that were handed out."""
    port = find_free_port()
    fleet.variables |= {"FLOWER_BASIC_AUTH": ":".join(VISITOR)}
    fleet.celery("flower", "flower", f"--port={port}", "--max_tasks=100000")
    wait_until_flower_listens(fleet.settings.redis)
    with spoilt_record(fleet.database):
        fleet.worker("worker", level="DEBUG")
        wait_until_a_worker_sends_events(fleet.settings.redis)
        fleet.beat(level="DEBUG")
        fleet.wait_until(lambda: fleet.status().reason == "internal", "the spoilt record pauses the batch")
        shown = look_through_flower(f"http://127.0.0.1:{port}", VISITOR)
    fleet.simulator.revoke_access_tokens()
    fleet.batches.resume(BATCH)
    restart()
    fleet.wait_until_finished()
    own, active = fleet.shipment.fresh[MISREAD], fleet.status().counts["active"]
    typed = [(own.serial, *WRONG), (own.serial, own.otp1, own.otp2)]
    shown |= look_through_desk(start_desk(fleet), BATCH, [row.serial for row in fleet.shipment.rows], typed)
    assert [b"sent already" in shown["desk OTPs 0"], b"are on their way" in shown["desk OTPs 1"]] == [True, True]
    fleet.wait_until(lambda: fleet.status().counts["active"] > active, "the typed OTPs made the token active")
    for program in fleet.programs:
        program.stop()
    fleet.oathbulk("status", "status", BATCH, "--json")
    fleet.oathbulk("export", "export", BATCH, "-o", "export.csv")
    fleet.oathbulk("doctor", "doctor", "--bundle", "bundle.json")
    access_tokens = fleet.simulator.access_tokens()
    assert len(access_tokens) > 1
    assert fleet.status().counts["active"] > RECORDS / 2
    return shown, access_tokens


def start_desk(fleet):
    """The link of a desk that serves."""
    desk = fleet.command("desk", "desk", "--port", "0")
    return wait_until(lambda: LINK.search(desk.read_log()), "the desk prints its link")[0]


def secrets_of(fleet, access_tokens):
    words = {f"access token {number}": token for number, token in enumerate(access_tokens, start=1)}
    words |= {"client secret": fleet.shipment.world.client_secret, "encryption key": fleet.encryption_key}
    rows = [*fleet.shipment.rows, fleet.shipment.fresh[MISREAD]]
    return Secrets([(row.otp1, row.otp2) for row in rows], words)


def search(wanted, texts, files):
    """The names of what was found, by the place where it was."""
    found = {place: wanted.found_in(data) for place, data in texts.items()}
    # A log is text: among the seventeen digits of a duration, eight are now and then those of an OTP.
    found |= {place: wanted.found_in(data, is_text=place.endswith(".log")) for place, data in files.items()}
    return {place: names for place, names in found.items() if names}


def said(fleet):
    """What each program printed and logged."""
    return {program.name: program.log.read_bytes() for program in fleet.programs}


def plant(fleet, valkey_url, otp):
    """What a leak would look like: in a message's body, in a column of text, in a log."""
    body = base64.b64encode(f'[["{otp}"], {{}}]'.encode()).decode()
    with closing(redis.Redis.from_url(valkey_url)) as client:
        client.lpush("oathbulk.activate", json.dumps({"body": body}))
    with fleet.database.writing() as connection:
        # Twice, and a full stop: in a server's own files a page may end within the one, and a digit follow the other.
        connection.execute(update(Batch).values(detail=f"PingOne refused {otp}, then {otp}."))
    with fleet.programs[0].log.open("a") as log:
        log.write(f"posting {otp}\n")


def assert_nothing_is_found(fleet, valkey, wanted, collect, database_file):
    """And that a search for what is there finds it: one that looks nowhere would find nothing either."""
    texts, files = collect()
    assert search(wanted, texts, files) == {}
    passwords = {"broker's": make_url(valkey.url).password, "database's": make_url(fleet.settings.database).password}
    assert search(Secrets([], {whose: word for whose, word in passwords.items() if word}), texts, {}) == {}
    pages = ("Flower /api/tasks", "Flower /tasks/datatable", "Flower /worker/", "desk /")
    for place in ("worker", "MONITOR", "broker", *pages):
        data = next(data for name, data in texts.items() if name.startswith(place))
        assert b"oathbulk" in data, place
    # Each message once.
    assert texts["MONITOR"].count(b"argsrepr") > RECORDS
    assert b"DecryptionError" in texts["worker"]
    assert any(b"DecryptionError" in page for name, page in texts.items() if name.startswith("Flower /task/"))
    plant(fleet, valkey.url, fleet.shipment.rows[6].otp2)
    # The monitor hears a message a moment after it was sent.
    wait_until(lambda: "MONITOR" in search(wanted, *collect()), "the planted message was heard")
    found = search(wanted, *collect())
    assert {"OTP of row 7"} == set.union(*found.values())
    assert {"broker", fleet.programs[0].name} <= set(found)
    assert [part for part in ("appendonlydir", database_file) if part not in " ".join(found)] == []


@pytest.mark.faults
def test_servers_are_left_without_a_secret(make_fleet, own_migrated_postgres, own_valkey, shipment, tmp_path):
    database, server = own_migrated_postgres
    fleet = make_fleet(database, own_valkey.url, shipment, faults=WEATHER, faults_per_device=1)

    def restart():
        server.stop()
        server.start()
        fleet.database.close()

    def collect():
        texts = {"MONITOR": monitor.heard, "broker": dump_broker(own_valkey.url), "pg_dump": dump_postgres(database)}
        files = read_files([tmp_path, own_valkey.directory], except_for=[fleet.outside])
        # The databases that every server comes with are not ours.
        files |= read_files([server.directory], except_for=[server.directory / "data" / "base" / n for n in "145"])
        return shown | said(fleet) | texts, files

    with Monitor(own_valkey.url) as monitor:
        shown, access_tokens = work(fleet, restart)
        wanted = secrets_of(fleet, access_tokens)
        assert_nothing_is_found(fleet, own_valkey, wanted, collect, "pg_wal")


@pytest.mark.faults
@pytest.mark.usefixtures("sqlite_home")
def test_a_single_machine_is_left_without_a_secret_outside_its_key_file(
    make_fleet, own_valkey, shipment, home, tmp_path
):
    fleet = make_fleet(None, own_valkey.url, shipment, faults=WEATHER, faults_per_device=1)

    def restart():
        own_valkey.kill()
        own_valkey.start()
        monitor.listen()

    def collect():
        texts = {"MONITOR": monitor.heard, "broker": dump_broker(own_valkey.url)}
        files = read_files([tmp_path, own_valkey.directory], except_for=[fleet.outside, home / "encryption.key"])
        return shown | said(fleet) | texts, files

    with Monitor(own_valkey.url) as monitor:
        shown, access_tokens = work(fleet, restart)
        fleet.oathbulk("backup", "db", "backup", "copy.db")
        fleet.oathbulk("purge", "purge", "--older-than", "1d", "--with-dead-letters", "--yes")
        wanted = secrets_of(fleet, access_tokens)
        assert_nothing_is_found(fleet, own_valkey, wanted, collect, "oathbulk.db")
