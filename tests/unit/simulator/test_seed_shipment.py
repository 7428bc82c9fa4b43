"""Made-up seeds end as `expected` says, if a client makes its OTPs as it should."""

from collections import Counter

import pytest

from worker.intake import Row, open_assignment, open_shipment
from worker.simulator.oath import hotp, time_step_at
from worker.simulator.seed_shipment import MIX, make_seed_shipment
from worker.simulator.seeding import add_to_world
from worker.simulator.settings import Settings
from worker.simulator.world import Outcome, World

NOW = 1_000_000_000.0


@pytest.fixture
def made():
    return make_seed_shipment(200)


def end(world, environment_id, row, lost):
    """How a record ends whose OTPs are made from its seed, the first `lost` of them in vain: status, reason, resynced;
    and how many OTPs it took."""
    device = world.find(environment_id, row.user_id, row.device_id, NOW)
    is_totp = row.otp_type == "totp"
    first = time_step_at(NOW, row.time_step) if is_totp else row.counter
    secret = bytes.fromhex(row.secret)
    for posts, position in enumerate((first + lost, first + lost + 1), 1):
        now = NOW + (row.time_step if is_totp and posts == 2 else 0)
        outcome = device.activate(hotp(secret, position), resync=posts == 2, now=now, settings=Settings())
        if outcome is Outcome.ACTIVE:
            return ("active", None, posts == 2), lost + posts
    return ("dead_letter", outcome, False), 0


def test_every_token_ends_as_constructed_and_takes_up_to_three_otps(made):
    world = World()
    add_to_world(world, made.world, NOW)
    ends = {
        row.serial: end(world, made.world.environment_id, row, row.device_id in made.answers_lost) for row in made.seeds
    }
    expected = {serial: (each.status, each.reason, each.resynced) for serial, each in made.expected.items()}
    assert {serial: ended for serial, (ended, _) in ends.items()} == expected
    hotp_serials = {row.serial for row in made.seeds if row.otp_type == "hotp"}
    posts = Counter(posts for serial, (_, posts) in ends.items() if serial in hotp_serials)
    assert posts == {1: 60, 2: 60, 3: 20}


def test_the_files_are_read_as_what_was_made(made, tmp_path):
    made.write_seeds(tmp_path / "seeds.csv")
    made.write_list(tmp_path / "people.csv")
    shipment = open_shipment(tmp_path / "seeds.csv", assignment=open_assignment(tmp_path / "people.csv"))
    rows = list(shipment.rows())
    assert all(isinstance(row, Row) for row in rows)
    read = [(r.serial_number, r.user_id, r.device_id, r.otps.secret.reveal().hex(), r.otps.time_step) for r in rows]
    steps = {"hotp": None, "totp": 30}
    assert read == [(r.serial, r.user_id, r.device_id, r.secret, steps[r.otp_type]) for r in made.seeds]
    assert [row.otps.counter for row in rows] == [row.counter for row in made.seeds]
    assert {row.extra["site"] for row in rows} == {"Oslo", "Porto", "Riga"}


def test_halves_of_the_people_have_the_same_kinds_of_tokens():
    made = make_seed_shipment(sum(MIX.values()))

    def kinds(people):
        serials = [person.token.serial for person in people]
        types = Counter(person.token.otp_type for person in people)
        return types, sum(made.expected[serial].resynced for serial in serials)

    assert kinds(made.people[::2]) == kinds(made.people[1::2])


def test_the_same_arguments_give_the_same_shipment(made):
    assert make_seed_shipment(200) == made
    assert make_seed_shipment(200, seed=1) != made
