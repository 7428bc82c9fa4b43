"""The error of the single-machine stack, and a cure that several messages name."""

# The cure for a full disk, with which every message about one ends.
FREE_SPACE = "free some space; nothing is lost, and the same command goes on where it was"


class EmbeddedError(Exception):
    """The home, or a server in it, cannot be used; the message names the fault and the cure, and no secret."""
