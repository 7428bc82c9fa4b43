"""The groups of PingOne's calls that have a rate limit each, and how a wait for a slot of one ends without it.

A call belongs to one group by path, method and media type, and each group has a budget of its own. Which of our calls
is in which is not published, so that there is one group for each kind of call: a 429 slows down its own kind alone.
https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
"""

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
