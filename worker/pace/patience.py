"""Waits for a slot however long the fleet holds, for commands: nobody is there to hand their calls back to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from worker.pace.errors import PaceOutOfReach, SlotTooFar

T = TypeVar("T")


def call_patiently(call: Callable[[], T], tries: int = 5) -> T:
    """Make the call, again and again while a hold or a busy fleet leaves no slot for it. Only where Redis is out of
    reach it gives up, after so many `tries`: then it raises PaceOutOfReach."""
    while True:
        try:
            return call()
        except SlotTooFar as far:
            tries -= isinstance(far, PaceOutOfReach)
            if not tries:
                raise
            # Workers take every slot as soon as it is near. Whoever asks at another moment than they gets one.
            time.sleep(far.wait * random.uniform(0.5, 1))  # noqa: S311
