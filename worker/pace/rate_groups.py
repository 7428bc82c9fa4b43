"""The groups of PingOne's calls that have a rate limit each, where each begins and what it never exceeds, and how a
wait for a slot of one ends without it.

A call belongs to one group by path, method and media type, and each group has a budget of its own. Which of our calls
is in which is not published, so that there is one group for each kind of call: a 429 slows down its own kind alone.
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

import math
from enum import StrEnum


class RateGroup(StrEnum):
    """A kind of calls with a pace of its own."""

    # Devices of users: activate, read, list.
    MFA = "mfa"
    # Users by their names.
    DIRECTORY = "directory"
    # Tokens of the environment.
    INVENTORY = "inventory"
    # Policies, settings, capabilities.
    CONFIGURATION = "configuration"


# Requests a second to begin with; MFA begins with PINGONE_RATE.
START_RATES = {
    # No base figure is published; 10 requests find 400 users, so that nothing waits for more.
    RateGroup.DIRECTORY: 10.0,
    # It may belong to the configuration, which has the lowest limit of all.
    RateGroup.INVENTORY: 3.0,
    # 600 a minute, of which one address may use 35 %: 3.5.
    RateGroup.CONFIGURATION: 3.0,
}

# Requests a second that are never exceeded, where a limit is published; all groups keep to PINGONE_RATE_MAX too.
HIGHEST_RATES = {
    # All of the 600 a minute, which an address on the license's list may use.
    RateGroup.CONFIGURATION: 10.0,
    # It may belong to the configuration; one page after the other hardly goes faster anyway.
    RateGroup.INVENTORY: 10.0,
}


def choose_rates(group: RateGroup, rate: float, rate_max: float) -> tuple[float, float]:
    """Choose the rate to begin with, and the highest one, of a group of an environment with these settings; in requests
    a second."""
    highest = min(rate_max, HIGHEST_RATES.get(group, math.inf))
    return (rate, highest) if group is RateGroup.MFA else (min(START_RATES[group], highest), highest)


class SlotTooFar(Exception):
    """The next slot is `wait` seconds away, because the fleet holds or many wait before this process; none was
    reserved."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait

    def __str__(self) -> str:
        return f"the fleet's next slot is {self.wait:.1f} s away"


class PaceOutOfReach(SlotTooFar):
    """Redis cannot be asked for a slot; it is not asked again for `wait` seconds."""
