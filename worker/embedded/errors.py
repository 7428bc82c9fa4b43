"""What can go wrong with the single-machine stack, in words that name the cure."""

# The cure of a full disk, at the end of every sentence that tells of one.
FREE_SPACE = "free some space; nothing is lost, and the same command goes on where it was"


class EmbeddedError(Exception):
    """The home or a server in it cannot be used; the message names fault and cure, and no secret."""
