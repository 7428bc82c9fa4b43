"""The journal: what went out to PingOne and what it answered, in files beside the database.

A database that was restored from a backup, or failed over to a server that lacked the last commits, does not know what
was sent since; the journal does. `writer` writes it, `reader` reads it back, `evidence` says what such a database has
to be corrected by.
"""
