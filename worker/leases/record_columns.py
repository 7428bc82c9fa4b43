"""The columns that keep how far a record has come: their SQL types, the expressions for them, and their values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, String, case
from sqlalchemy.types import TypeEngine

from models.record import Record
from models.record_states import NOBODY
from worker.leases.group_commit import Given
from worker.rules.progress import OtpProgress, Progress

PROGRESS_TYPES: dict[str, TypeEngine[Any]] = {
    "first_state": String(),
    "first_posts": Integer(),
    "second_state": String(),
    "second_posts": Integer(),
    "new_verdict": String(),
    "new_next_counter": BigInteger(),
}
PAIRING_TYPES: dict[str, TypeEngine[Any]] = {
    "new_pairing": String(),
    "new_pairings": Integer(),
    "new_device_id": String(),
    "new_is_device_made": Boolean(),
    "new_was_free": Boolean(),
}


def progress_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's OTPs, by name, and expressions for them."""
    return {
        "otp1_state": given["first_state"],
        "otp1_posts": given["first_posts"],
        "otp2_state": given["second_state"],
        "otp2_posts": given["second_posts"],
        "verdict": given["new_verdict"],
        "next_counter": given["new_next_counter"],
    }


def pairing_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's device. They are written only where that has changed."""
    return {
        "pairing": given["new_pairing"],
        "pairings": given["new_pairings"],
        "device_id": given["new_device_id"],
        "is_device_made": given["new_is_device_made"],
        "owner_id": case((given["new_was_free"], NOBODY), else_=Record.owner_id),
    }


def progress_parameters(progress: Progress) -> dict[str, Any]:
    """The values of PROGRESS_TYPES. A second OTP that a record does not have is unsent."""
    second = progress.second or OtpProgress()
    return {
        "first_state": progress.first.state,
        "first_posts": progress.first.posts,
        "second_state": second.state,
        "second_posts": second.posts,
        "new_verdict": progress.verdict,
        "new_next_counter": progress.next_counter,
    }


def pairing_parameters(progress: Progress) -> dict[str, Any]:
    """The values of PAIRING_TYPES."""
    pairing = progress.pairing
    return {
        "new_pairing": pairing.state,
        "new_pairings": pairing.pairings,
        "new_device_id": pairing.device_id,
        "new_is_device_made": pairing.is_made,
        "new_was_free": pairing.was_free,
    }
