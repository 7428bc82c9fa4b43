"""The journal: what went out to PingOne and what it answered, in files beside the database.

A database that was restored from a backup, or failed over to a server that lacked the last commits, has forgotten what
was sent since; the journal has not. `writer` writes it, `reader` reads it back, `evidence` says what a database that
forgot has to learn from it.
"""
