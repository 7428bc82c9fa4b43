import random, threading
from datetime import timedelta
from concurrent.futures import ThreadPoolExecutor
from models.record import Status
from support.batches import *
from worker.batches import Batches
from worker.leases.queue import Queue

def test_deadlock(postgres_url):
    from support.moving_clock import MovingDatabase
    database = MovingDatabase(postgres_url)
    b = Batches(database)
    errors = []
    for round in range(6):
        now = database.read_clock()
        leases = [now - timedelta(seconds=random.Random(round).sample(range(100000),3000)[n]) for n in range(3000)]
        made = make_batch(database, [{"status": Status.QUEUED, "lease_until": leases[n]} for n in range(3000)], name=f"r{round}")
        ready = threading.Barrier(3)
        def run(f):
            ready.wait()
            try: f()
            except Exception as e: errors.append(repr(e)[:300])
        def unq():
            with database.writing() as c: Queue(database).unqueue(c, random.sample(made.ids, 3000))
        with ThreadPoolExecutor(3) as t:
            list(t.map(run, [lambda: rescue(database), lambda: b.cancel(made.name), unq]))
    database.close()
    print(errors)
    assert not errors
