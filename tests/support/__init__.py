"""What the tests of every room stand on, in rooms of its own.

servers     real servers, each gone with the test run: PostgreSQL, Valkey, PgBouncer, TLS; two PingOnes
processes   commands and programs as processes: started, watched, killed; and waiting for a condition
fleets      what works through a batch: as real processes, as a test says, or in virtual time
judges      who says whether a promise was broken, and the evidence for it
data        batches, records, shipments and their tokens: made, and looked at
"""
