"""The names of a person, apart from PingOne's user id: one table for intake, look-up, search, export, and erasure."""

# Each name is a column of a record, a field of a row and a column of a file; its value is the attribute of PingOne's
# user for the look-up. The most informative comes first.
NAMES = {"username": "username", "email": "email", "external_id": "externalId"}
# All names of a person, the most certain first.
PERSON = ("user_id", *NAMES)
