"""What is displayed of the way before the first OTP: what records wait for, and what was made in PingOne."""

from __future__ import annotations

from worker.observability.counting import agree, count_things
from worker.reports.facts import BatchStatus


def describe_waiting(status: BatchStatus) -> str:
    """Say in a sentence how many records wait for what before their first call; empty if none does."""
    token = "is imported" if status.may_import else "is found in the inventory"
    waits = {"person is found": status.waiting.get("user", 0), f"token {token}": status.waiting.get("token", 0)}
    parts = [
        f"{number:,} {agree(number, 'waits until its', 'wait until their')} {event}"
        for event, number in waits.items()
        if number
    ]
    return f"{', '.join(parts)}." if parts else ""


def put_waiting_first(status: BatchStatus, outlook: str) -> str:
    """Say how many records wait for what, and then what will become of the batch."""
    return f"{describe_waiting(status)} {outlook}".lstrip()


def describe_made(status: BatchStatus) -> str:
    """Say what the batch has made in PingOne, and how many tokens are active without an OTP; empty if nothing of the
    kind."""
    parts = []
    if status.imported or status.paired:
        parts += [
            f"{count_things(status.imported, 'token')} imported",
            f"{count_things(status.paired, 'device')} paired",
        ]
    if status.unproved:
        parts.append(f"{status.unproved} active unproved (PingOne wanted no OTP)")
    return " · ".join(parts)
