"""How PingOne's API talks: requests out, answers in, and the errors that they stand for. Nobody outside this room knows
a status code or a media type.

May import pace, vault, config and clocks.
Begin with `client`, the calls that the rest of the program makes; `errors` names how they end.
"""
