"""What Flower does where nobody configured it: only this machine gets at it, with a password, it changes nothing, and
shows tokens. By itself it listens on every interface, lets everybody in, lets everybody stop workers, and lists tasks
by numbers of its own.

Only a process that is Flower imports this module.
"""

from __future__ import annotations

import secrets
import sys

from flower.options import options
from tornado.options import _Option

LOOPBACK = "127.0.0.1"
USER = "oathbulk"
# Of the list of tasks: `args` are batch, row and serial number, `result` is how the attempt ended, and `exception` why,
# if that is with a dead letter.
COLUMNS = "args,state,result,exception,received,runtime,worker,uuid"


def set_defaults() -> None:
    """Set address, password, read-only mode and columns where a person set them in none of Flower's ways (command line,
    FLOWER_… variables, flowerconfig.py). To be called when Flower has read its options, and does not listen yet."""
    if not options.address:
        options.address = LOOPBACK
    if not _is_set("read-only"):
        options.read_only = True
    if not _is_set("tasks-columns"):
        options.tasks_columns = COLUMNS
    # Flower reads an empty FLOWER_BASIC_AUTH as a list with one empty entry.
    if options.auth or any(options.basic_auth or []):
        return
    password = secrets.token_urlsafe(18)
    options.basic_auth = [f"{USER}:{password}"]
    sys.stderr.write(
        f"oathbulk: Flower asks for user {USER} and password {password}, made up for this start. "
        "FLOWER_BASIC_AUTH=user:password sets others.\n"
    )
    sys.stderr.flush()


def _is_set(option: str) -> bool:
    """Whether a person has set this option. Private to Tornado: nothing else tells a person's value from the
    default."""
    return options._options[option]._value is not _Option.UNSET
