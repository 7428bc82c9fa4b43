"""What names a person beside PingOne's id of the user: one table, from which intake, look-up, search, export and
erasure are made."""

# Column of a record, field of a row, column of a file; and the attribute of PingOne's user by which it is looked up.
# The most telling one first.
NAMES = {"username": "username", "email": "email", "external_id": "externalId"}
# All that names a person, the most certain first.
PERSON = ("user_id", *NAMES)
