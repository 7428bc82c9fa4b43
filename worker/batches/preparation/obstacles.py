"""What keeps a whole batch from being prepared until a person mends it."""

from __future__ import annotations

from models.reason import PauseReason

# Why the batch pauses, and what a person can do, by what is in the way.
_OBSTACLES = {
    "users": (
        PauseReason.PERMISSIONS,
        "The worker application may not read users, so nobody is found by name. Give it the role Identity Data Read"
        " Only or Identity Data Admin, then resume; or mend the rows with user ids.",
    ),
    "nobody": (
        PauseReason.PERMISSIONS,
        "None of the first people was found by name. PingOne shows no users to a worker application without a role in"
        " their population: if these people exist, give it Identity Data Read Only or Identity Data Admin there,"
        " resume, and replay the reason `user_not_found`. If they do not exist, only resume.",
    ),
    "inventory": (
        PauseReason.PERMISSIONS,
        "The worker application may not read or import tokens (GET oathTokens, POST oathJobs). Give it a role that"
        " may, probably Environment Admin; or set PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET to an"
        " application that has it. Then resume.",
    ),
    "refused": (
        PauseReason.REFUSED,
        "PingOne refuses to import one token after the other. Look its codes up, mend the cause, then resume and replay"
        " the reason `token_refused`; or cancel.",
    ),
    "full": (
        PauseReason.REFUSED,
        "PingOne's inventory takes no more tokens: the environment has as many as it may have. Remove tokens that"
        " nobody uses, or ask Ping Identity for more, then resume.",
    ),
}


class Obstacle(Exception):
    """Something is in the way of the whole batch, which is to be paused for `reason`, with `cure`. `what` and `said`:
    as `explain` takes them."""

    def __init__(self, what: str, said: object = None) -> None:
        self.reason, self.cure = explain(what, said)
        super().__init__(self.cure)


def explain(what: str, said: object = None) -> tuple[PauseReason, str]:
    """Say why a batch pauses, and what a person can do: `what` is "users" (they may not be read), "nobody" (of the
    first people none was found), "inventory" (it may not be read, or nothing imported), "refused" (one token after the
    other) or "full" (the inventory takes no more). `said`: PingOne's words."""
    reason, cure = _OBSTACLES[what]
    return reason, f"{cure} PingOne said: {said}" if said else cure
