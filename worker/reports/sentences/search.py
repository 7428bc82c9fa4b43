"""What a search that has found nothing says, at the terminal and at the desk."""

from __future__ import annotations

from models.record_states import Status
from models.refused_row import REFUSED
from worker.reports.search import Sought


def describe_nothing_found(sought: Sought) -> str:
    """Say that there is no such record; where something was typed of which nothing may begin so, how that is read."""
    if sought.text is not None or sought.user is not None:
        return "No record is like that. What is searched for has to be the beginning of a value."
    of = f" of {sought.batch}" if sought.batch else ""
    having = f" has the reason {sought.reason}" if sought.reason else ""
    match sought.status:
        case None:
            return f"No record{of}{having}." if having else f"There is no record{of}."
        case _ if sought.status == REFUSED and not having:
            return f"No row{of} was refused."
        case Status.DEAD_LETTER:
            status = "is a dead letter"
        case _:
            status = f"is {sought.status}"
    return f"No record{of} {status}{' and' + having if having else ''}."
