"""The first morning: who follows the hand-out that was written, and what the exit code says of them."""

import csv
from contextlib import closing

import pytest

from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.first_morning import Simulator, play_first_morning
from worker.simulator.oath import hotp
from worker.simulator.seed_shipment import make_seed_shipment
from worker.simulator.server import running
from worker.simulator.simulation import Simulation

TOKENS = 40


class Night:
    """A simulator after a run that sent so many OTPs on behalf of each HOTP token, and the hand-out of that run."""

    def __init__(self, simulator, simulation, folder):
        self.made = make_seed_shipment(TOKENS)
        self.simulator = simulator
        self.simulation = simulation
        self.hand_out = folder / "hand-out.csv"
        simulation.seed(self.made.world)

    def activate(self, sent):
        for row in self.made.seeds:
            device = self.simulation.world.find_by_id(row.device_id)
            device.status = "ACTIVE"
            device.token.drift = 0
            if row.otp_type == "hotp":
                device.token.counter = row.counter + sent

    def write_hand_out(self, presses):
        with self.hand_out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["serial", "site", "presses_to_discard"])
            for row in self.made.seeds:
                writer.writerow([row.serial, "Oslo", presses if row.otp_type == "hotp" else 0])

    def play(self):
        return play_first_morning(self.made, self.hand_out, self.simulator)


@pytest.fixture
def night(tmp_path):
    simulation = Simulation()
    with running(simulation) as url, closing(Simulator(url)) as simulator:
        yield Night(simulator, simulation, tmp_path)


def test_who_follows_the_hand_out_gets_in_and_who_does_not_is_refused_or_locked_out(night, capsys):
    night.activate(sent=3)
    night.write_hand_out(presses=3)
    assert night.play() == ALL_ACTIVE
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "20 people do as hand-out.csv says: 20 signed on at the first try, 0 locked out.",
        "20 people do not: 6 signed on at the first try, 14 locked out.",
        "An hour later all sign on again: 40 signed on at the first try, 0 locked out.",
    ]


def test_a_hand_out_that_says_too_little_fails(night, capsys):
    night.activate(sent=2)
    night.write_hand_out(presses=1)
    assert night.play() == SOME_LEFT
    said = capsys.readouterr().out
    assert "20 people do as hand-out.csv says: 6 signed on at the first try, 14 refused once, 0 locked out." in said
    assert "20 people do not: 6 signed on at the first try, 14 refused twice, 0 locked out." in said
    assert "The first morning failed" in said


def test_a_hand_out_of_nobody_fails(night):
    night.hand_out.write_text("serial,presses_to_discard\n")
    assert night.play() == SOME_LEFT


def test_the_first_otp_of_a_device_is_lost_once(night):
    row = night.made.seeds[0]
    night.simulator.lose_answers([row.device_id])
    (order,) = night.simulation.faults.orders
    assert (order.kind, order.operation, order.device_id) == ("error_before", "activate", row.device_id)


def test_a_totp_person_reads_the_clock_of_the_next_morning(night):
    """Its OTP is another than that of the run, and another again at the second sign-on."""
    night.activate(sent=0)
    night.write_hand_out(presses=0)
    totp = next(person for person in night.made.people if person.token.otp_type == "totp")
    device = night.simulation.world.find_by_id(totp.token.device_id)
    step = int(night.simulation.unix_time() // 30)
    assert device.token.otps.at(step) == hotp(bytes.fromhex(totp.token.secret), step)
    assert night.play() == ALL_ACTIVE
    assert device.token.counter > step + 12 * 120
