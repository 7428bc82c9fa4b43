"""PingOne forbids a part of the preparation."""

from __future__ import annotations

# What a person can do where the worker application may not prepare a batch, by what it may not do.
CURES = {
    "users": "The worker application may not read users, so nobody is found by name. Give it the role Identity Data"
    " Read Only or Identity Data Admin, then resume; or load the rows with user ids.",
    "inventory": "The worker application may not read or import tokens (GET oathTokens, POST oathJobs). Give it a role"
    " that may, probably Environment Admin; or set PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET to an"
    " application that has it. Then resume.",
}


class NotPermitted(Exception):
    """PingOne forbids the part of the preparation that `what` names, a key of CURES."""

    def __init__(self, what: str) -> None:
        super().__init__(CURES[what])
        self.what = what
