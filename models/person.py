"""What names a person, apart from PingOne's user id: one table for intake, look-up, search, export, and erasure."""

# Column of a record, field of a row, column of a file; and the attribute of PingOne's user for the look-up. The most
# telling first.
NAMES = {"username": "username", "email": "email", "external_id": "externalId"}
# All names of a person, the most certain first.
PERSON = ("user_id", *NAMES)
