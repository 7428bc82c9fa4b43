"""What it costs to learn whether a tenant wants `oathResync` with OTP 1 (PINGONE_RESYNC_ON_FIRST_CALL=auto): two
batches, one after the other, on the embedded stack; for a tenant that wants it, and for one that does not.

    PYTHONPATH=tests python tests/benchmarks/learnt_resync.py [--batch-of N] [--out-of-step SHARE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from embedded_run import EmbeddedRun
from sqlalchemy import select

from models.batch import Batch
from models.record import Record
from worker.simulator.shipment import MadeShipment, make_shipment
from worker.tenants import read_resync

NAMES = ("first", "second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch-of", type=int, default=1000)
    parser.add_argument("--out-of-step", type=float, default=0.3)
    chosen = parser.parse_args()
    made = make_shipment(2 * chosen.batch_of, out_of_step=chosen.out_of_step)
    for needs_flag in (True, False):
        with tempfile.TemporaryDirectory(prefix="oathbulk-bench-") as directory:
            measure(Path(directory), made, chosen.batch_of, needs_flag=needs_flag)


def measure(folder: Path, made: MadeShipment, batch_of: int, *, needs_flag: bool) -> None:
    settings = {"PINGONE_RESYNC_ON_FIRST_CALL": "auto"}
    # It locks a device after five failures, so that no OTP is lost to a lock.
    run = EmbeddedRun(folder, made, settings, extra_otp_needs_resync=needs_flag, failure_count=5)
    with run.simulator, closing(run.open_database()) as database:
        print(f"a tenant that {'wants' if needs_flag else 'does not want'} the flag with OTP 1:")
        for number, name in enumerate(NAMES):
            file = folder / f"{name}.csv"
            replace(made, rows=made.rows[number * batch_of :][:batch_of]).write_pairs(file)
            cost = run.oathbulk("run", str(file))
            statement = select(Record.status, Record.reason).join(Batch).where(Batch.name == name)
            with database.reading() as connection:
                ends = Counter(f"{row.status} {row.reason or ''}".strip() for row in connection.execute(statement))
                learnt = read_resync(connection, made.world.environment_id).needs
            print(
                f"  {name} batch of {batch_of}: {dict(sorted(ends.items()))}; known then: {learnt}; exit code "
                f"{cost.exit_code}, {cost.wall:.0f} s, {cost.cpu:.0f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()
