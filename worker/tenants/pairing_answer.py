"""What an environment makes of a device when it is paired: it waits for an OTP, or is ACTIVE at once. Nothing is kept
for that: the records of this environment show it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from models.record import Record, all_posts
from models.record_states import Status


def describe_pairing_answer(connection: Connection, environment_id: str) -> str | None:
    """Say what became of the last device that was made in this environment, and of which record it is; None if none was
    made and became active."""
    made = select(Record.id, all_posts(), Record.finalized_at).where(
        Record.environment_id == environment_id, Record.is_device_made, Record.status == Status.ACTIVE
    )
    last = connection.execute(made.order_by(Record.id.desc()).limit(1)).first()
    if last is None:
        return None
    record_id, posts, at = last
    seen = f"(record {record_id}, {at:%Y-%m-%d})"
    if posts:
        return f"a device that is made waits for an OTP {seen}"
    return f"a device is ACTIVE as soon as it is made, so that no OTP proves its token {seen}"
