"""Every step of the work at which a process can die, found in the running code and not listed by hand.

    steps       where they are: around each transaction, HTTP exchange, slot, message and opened secret of a process
    zygote      a process that has imported everything, and forks one that works and dies for each order it gets
    orders      how it is told to, by whoever runs the tests
    stage       a database, a pace, a simulated PingOne and a zygote: what happens there, and how it ends
    whole_stage the same for records without a device, whose batches are prepared and whose tokens are paired
    way         how a way of a record is written down: its steps, and what a death at each of them may cost
    ways        those of records that bring a pair of OTPs
    seed_ways   those of records that bring a seed
    pairing_ways, preparation_ways
                those of records without a device, and of the preparation of their batches
    names       what the steps are called there; those of a tick and of a person's commands
    beginnings, pairing_beginnings
                how records come to where a way begins
    in_worker   the same steps in a whole Celery worker with all its threads

A process that dies is a real one: it runs the tasks of worker.tasks and ends by SIGKILL in the midst of them. Who comes
after it finds what the databases hold, as after any other death. Only the database's clock is moved, so that nobody has
to wait for a lease.

A step that is new in the code is missing in these tables, and fails tests/acceptance/test_crash_points.py until
somebody has looked at what a death there leaves behind, and written it down.
"""
