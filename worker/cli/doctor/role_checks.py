"""The checks of roles: for each kind of call a read that needs the same role, and which role is missing if it is
forbidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from worker.cli.doctor.finding import Finding, State, examine, fault, not_known
from worker.config.environment import Environment
from worker.pingone.diagnosis import RoleReads
from worker.pingone.errors import Forbidden, PingOneError

# Seconds that one read may take, since a person waits for it.
DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class CallKind:
    """A kind of call, and the role that it needs."""

    check: str
    role: str
    # What there is not without it; empty: nothing can be activated at all.
    lacking: str = ""
    # A word in the ids of the permissions that it needs, by which PingOne's list of roles is searched.
    permission: str = ""


_IDENTITY = "Identity Data Admin"
USERS = CallKind("role: users", _IDENTITY)
DEVICES = CallKind("role: devices", _IDENTITY)
# Which role it is, is not published.
INVENTORY = CallKind(
    "role: inventory", "Environment Admin, probably", "--import, nor a look at the inventory", "oathToken"
)
POLICIES = CallKind("role: policies", "Configuration Read Only", "word of the MFA policy in preflight")


def check_roles(environment: Environment, access_token: str | None, kinds: Sequence[CallKind]) -> Iterator[Finding]:
    """Check whether a worker application has the roles for these kinds of calls, in this order. None for an access
    token: there is none."""
    if access_token is None:
        for kind in kinds:
            yield not_known(kind.check, "there is no access token")
        return
    reads = RoleReads(environment, access_token, deadline=DEADLINE)
    users: list[str] = []
    try:
        for kind in kinds:
            yield examine(kind.check, partial(_check, kind, reads, users))
    finally:
        reads.close()


def _check(kind: CallKind, reads: RoleReads, users: list[str]) -> Finding:
    """Make the read of one kind of call. `users`: the id of a user, as soon as one is known."""
    if kind is DEVICES and not users:
        return not_known(kind.check, "no user was seen whose devices could be read")
    look: dict[str, Callable[[], object]] = {
        USERS.check: lambda: users.extend(filter(None, [reads.read_user()])),
        DEVICES.check: lambda: reads.read_devices(users[0]),
        INVENTORY.check: reads.read_inventory,
        POLICIES.check: reads.read_policies,
    }
    try:
        look[kind.check]()
    except Forbidden as error:
        return _name_missing(kind, reads, str(error))
    except PingOneError as error:
        return not_known(kind.check, str(error))
    return Finding(kind.check, "permitted")


def _name_missing(kind: CallKind, reads: RoleReads, said: str) -> Finding:
    """Name the role that is missing, as PingOne's list of roles has it where it tells."""
    found = reads.find_roles(kind.permission) if kind.permission else []
    role = " or ".join(found) or kind.role
    cure = f"give the worker application the role {role} in this environment"
    detail = f"forbidden, the role {role} is missing ({said})"
    if not kind.lacking:
        return fault(kind.check, detail, cure)
    return Finding(kind.check, f"{detail}: without it there is no {kind.lacking}", State.NOT_KNOWN, cure)
