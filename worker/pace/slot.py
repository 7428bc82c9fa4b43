"""A slot: leave to send one request."""

from __future__ import annotations

import math
from typing import NamedTuple


class Slot(NamedTuple):
    """Leave to send one request, at the fleet's rate of that moment.

    `at` is when it is due, in microseconds of Redis' clock; `rate` the requests a second that it was given at; `due` is
    `at` in seconds of this process' monotonic clock, -inf where that is not known."""

    at: int
    rate: float
    due: float = -math.inf
