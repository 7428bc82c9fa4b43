"""What can go wrong with the single-machine stack, in words that name the cure."""


class EmbeddedError(Exception):
    """The home or a server in it cannot be used; the message names fault and cure, and no secret."""
