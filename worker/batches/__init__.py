"""Work on a batch as a whole. A shipment is loaded into it, people command it, and it pauses and resumes by itself.
What it needs in PingOne is prepared, and what it made there can be removed.

Begin with `loading` (turns a file into a batch), `commands` (pause, resume, cancel, replay), `upkeep` (what happens
without a person, at each tick) or `long_list` (how PingOne is asked about many people, tokens or devices).
"""
