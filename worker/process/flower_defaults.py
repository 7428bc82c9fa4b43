"""What Flower does where nobody configured it: only this machine gets at it, with a password, it changes nothing, and
shows tokens. By itself it listens on every interface, lets everybody in, lets everybody stop workers, and lists tasks
by numbers of its own.

Only a process that is Flower imports this module.
"""

import secrets
import sys

from flower.options import options

LOOPBACK = "127.0.0.1"
USER = "oathbulk"
# Flower's own variables, which it reads before a person's flowerconfig.py and command line. Of the list of tasks:
# `args` are batch, row and serial number, `result` is how the attempt ended, and `exception` why, if that is with a
# dead letter.
VARIABLES = {
    "FLOWER_READ_ONLY": "true",
    "FLOWER_TASKS_COLUMNS": "args,state,result,exception,received,runtime,worker,uuid",
}


def set_defaults() -> None:
    """Set address and password where a person set them in none of Flower's ways (command line, FLOWER_… variables,
    flowerconfig.py). To be called when Flower has read its options, and does not listen yet."""
    if not options.address:
        options.address = LOOPBACK
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
