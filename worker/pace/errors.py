"""How a wait for a slot ends without one.

SlotTooFar             the fleet's next slot is too far away to wait for; none was reserved
└── PaceOutOfReach     Redis cannot be asked for one
"""


class SlotTooFar(Exception):
    """The next slot is `wait` seconds away, because the fleet holds or many wait before this process."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait

    def __str__(self) -> str:
        return f"the fleet's next slot is {self.wait:.1f} s away"


class PaceOutOfReach(SlotTooFar):
    """Redis cannot be asked for a slot; it is not asked again for `wait` seconds."""
