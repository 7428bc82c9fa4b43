"""What a shipment takes of disk, and what each process takes of memory and of PostgreSQL's connections.

    python tests/benchmarks/sizes.py [--records N] [--sample N]

Disk: N records are loaded from OTP pairs with two columns of the vendor's, then made active by SQL, each with one
attempt in its history; with three updates each, as a run makes them, and no VACUUM meanwhile, so that it is the most
that they take. Bytes include indexes. Processes: what each has when the sample is activated, and the most connections
that it had.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from contenders import Ours
from intake import write_shipment
from rig import Rig, end_in_good_order, resident, told
from sqlalchemy import Connection, text
from support.processes.command_desk import enter_desk, make_browser

from worker.database.engine import Database
from worker.embedded.valkey import find_free_port
from worker.simulator.shipment import make_shipment

TIMEOUT = 900
# As a run leaves a record: queued, claimed with its OTP marked as sent, settled.
UPDATES = (
    "UPDATE record SET status = 'queued', lease_until = CURRENT_TIMESTAMP",
    "UPDATE record SET status = 'activating', lease_id = '0123456789abcdef0123456789abcdef', otp1_state = 'sent',"
    " otp1_posts = 1, attempts = 1",
    "UPDATE record SET status = 'active', otps = NULL, otp1_state = 'answered', lease_id = NULL, lease_until = NULL,"
    " requests = 1, correlation_id = '0a7b0000-5e1f-4c0d-8000-0000000000a1', finalized_at = CURRENT_TIMESTAMP",
)
# As the worker writes it.
CALL = (
    r'{"call"\:"otp1","resync"\:false,"status"\:200,"correlation_id"\:"0a7b0000-5e1f-4c0d-8000-0000000000a1",'
    r'"milliseconds"\:180}'
)
ATTEMPTS = f"""
    INSERT INTO attempt (record_id, batch_id, number, outcome, lease_id, worker, requests, call_milliseconds, otp_posts,
                         calls, ended_at)
    SELECT id, batch_id, 1, 'active', '0123456789abcdef0123456789abcdef', 'oathbulk-worker-1.example.com:12345', 1, 180,
           1, '[{CALL}]', CURRENT_TIMESTAMP FROM record
"""
NAMES = ("worker0", "beat", "flower", "desk", "metrics")


def read_sizes(connection: Connection, *, is_sqlite: bool) -> tuple[int, int]:
    """Bytes of records and of attempts, with their indexes; SQLite's file as a whole, and 0."""
    if is_sqlite:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one(), 0
    statement = "SELECT pg_total_relation_size('record'), pg_total_relation_size('attempt')"
    record, attempt = connection.exec_driver_sql(statement).one()
    return record, attempt


def measure_disk(records: int, *, on_postgres: bool) -> Iterator[tuple[str, float]]:
    with Rig(make_shipment(1), on_postgres=on_postgres) as rig:
        ours = Ours(rig)
        ours.migrate()
        write_shipment(rig.directory / "many.csv", records)
        rig.run("worker", "load", str(rig.directory / "many.csv"), "--offline", timeout=TIMEOUT)
        with closing(Database(ours.database_url)) as database:

            def read() -> tuple[int, int]:
                with database.reading() as connection:
                    return read_sizes(connection, is_sqlite=database.is_sqlite)

            loaded, _ = read()
            yield "a record, loaded", loaded / records
            with database.writing() as connection:
                connection.execute(text(ATTEMPTS))
            whole, attempts = read()
            yield "an attempt", (attempts or whole - loaded) / records
            before, _ = read()
            for update in UPDATES:
                with database.writing() as connection:
                    connection.execute(text(update))
            after, _ = read()
            yield "a record, active, no VACUUM", (loaded + after - before) / records


def measure_processes(sample: int) -> Iterator[tuple[str, float, int]]:
    with Rig(make_shipment(sample)) as rig:
        rig.simulate()
        ours = Ours(rig, rate=50)
        ours.migrate()
        port = find_free_port()
        commands = {
            "worker0": ("celery", "-A", "worker", "worker", "-n", "worker0@bench"),
            "beat": ("celery", "-A", "worker", "beat"),
            "flower": ("celery", "-A", "worker", "flower", f"--port={find_free_port()}"),
            "desk": ("worker", "desk", "--port", "0"),
            "metrics": ("worker", "metrics", "--port", str(port)),
        }
        for name, argv in commands.items():
            # By this name PostgreSQL knows the connections of a process.
            rig.variables["PGAPPNAME"] = name
            rig.start(name, *argv)
            rig.wait_until_idle(name)
        rig.variables["PGAPPNAME"] = "load"
        ours.load()
        most = Counter[str]()
        with make_browser() as browser:
            enter_desk(browser, (rig.directory / "desk.log").read_text)
            while rig.activated() < sample:
                browser.get("/")
                browser.get(f"http://127.0.0.1:{port}/metrics")
                most |= Counter(dict(_count_connections(ours.database_url)))
        for name in NAMES:
            yield name, resident(rig.processes[name].pid), most[name]


def _count_connections(url: str) -> list[tuple[str, int]]:
    with closing(Database(url)) as database, database.reading() as connection:
        statement = "SELECT application_name, count(*) FROM pg_stat_activity GROUP BY application_name"
        return [(name, count) for name, count in connection.exec_driver_sql(statement)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=300)
    arguments = parser.parse_args()
    end_in_good_order()
    print("| bytes of | PostgreSQL | SQLite |\n|---|---|---|")
    with told(f"{arguments.records} records, twice"):
        on_postgres, on_sqlite = (
            dict(measure_disk(arguments.records, on_postgres=on_postgres)) for on_postgres in (True, False)
        )
    for what, size in on_postgres.items():
        print(f"| {what} | {size:.0f} | {on_sqlite[what]:.0f} |", flush=True)
    print("\n| process | memory, MiB | connections |\n|---|---|---|")
    with told(f"{arguments.sample} records"):
        for name, memory, connections in measure_processes(arguments.sample):
            print(f"| {name.rstrip('0')} | {memory:.0f} | {connections} |", flush=True)


if __name__ == "__main__":
    main()
