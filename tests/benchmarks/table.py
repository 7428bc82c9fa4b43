"""How long it takes from the click at a table to an ACTIVE device, while a batch runs at its ceiling: with the look-up
of the person, pairing and activation; and with the import, for tokens that are given out before their turn.

    python tests/benchmarks/table.py [--records 50000] [--given 10] [--limit 50] [--latency 60] [--workers 1]

A box is loaded with a list of who gets what, and at both of its ends tokens that nobody gets yet. While its people are
looked up, its tokens imported and paired, and its OTPs sent, one token after the other is given out: those at the begin
of the file are imported by then, those at its end are not. The simulator permits so many requests a second, and
oathbulk looks for that limit.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Iterator

from contenders import Ours
from rig import Rig, end_in_good_order, follow, told
from sqlalchemy import select

from models.record import Record
from models.record_states import FINAL, Status
from worker.audit import Actor
from worker.batches.mending import give
from worker.database.engine import Database
from worker.simulator.shipment import KEY, LIST, SEEDS, make_box

ACTOR = Actor("benchmark", None)
# Seconds: until the first is given out, between two of them, and for one to become active.
WARM_UP, PAUSE, PATIENCE = 60.0, 5.0, 120.0


def measure(records: int, given: int, limit: float, latency: float, workers: int) -> Iterator[list[float]]:
    box = make_box(records + 2 * given, totp=0)
    with Rig(box) as rig:
        rig.simulate(rate=limit, burst=limit, latency=latency / 1000)
        box.write(rig.directory)
        people = rig.directory / LIST
        lines = list(csv.reader(people.open(newline="")))
        with people.open("w", newline="") as file:
            csv.writer(file).writerows([lines[0], *lines[1 + given : -given]])
        ours = Ours(rig, rate=None)
        ours.start(workers)
        files = (str(rig.directory / SEEDS), "--key-file", str(rig.directory / KEY), "--assign", str(people))
        with told("load"):
            rig.run("worker", "load", *files, "--import", "--pair", "--give-out", "--offline", timeout=900)
        database = Database(ours.database_url)
        try:
            with told("first activations"):
                follow(lambda: rig.activated() > 10, PATIENCE, "the first tokens are active")
                time.sleep(WARM_UP)
            for tokens in (box.tokens[:given], box.tokens[-given:]):
                yield [give_one(database, token.serial, token.email) for token in tokens]
        finally:
            print(f"{rig.activated()} active", flush=True)
            database.close()


def give_one(database: Database, serial: str, person: str) -> float:
    """Seconds until it is active."""
    began = time.monotonic()
    record = give(database, ACTOR, "box", serial, person)
    gave = time.monotonic() - began

    def status() -> str:
        with database.reading() as connection:
            return connection.scalars(select(Record.status).where(Record.id == record)).one()

    follow(lambda: status() in FINAL, PATIENCE, f"{serial} is active")
    seconds = time.monotonic() - began
    assert status() == Status.ACTIVE
    print(f"{serial}: {seconds:.1f} s ({gave:.2f})", flush=True)
    time.sleep(PAUSE)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, default in (("records", 50_000), ("given", 10), ("limit", 50), ("latency", 60), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    end_in_good_order()
    for seconds in measure(**vars(arguments)):
        print(f"median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s", flush=True)


if __name__ == "__main__":
    main()
