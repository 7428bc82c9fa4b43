"""What happens to a batch as a whole: it is loaded from a shipment, gets a person's commands, and pauses and goes on by
itself; and what it has in PingOne is prepared, and taken away again.

Begin with `loading` (a file becomes a batch), `commands` (pause, resume, cancel, replay), `upkeep` (what happens
without a person, at each tick) or `long_list` (how PingOne is asked about many people, tokens or devices).
"""
