"""Restricts Flower where nobody configured its access: only this machine gets at it, with a password. Flower by itself
listens on every interface, and lets everybody in.

Only a process that is Flower imports this module.
"""

from __future__ import annotations

import secrets
import sys

from flower.options import options

LOOPBACK = "127.0.0.1"
USER = "oathbulk"


def restrict_access() -> None:
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
