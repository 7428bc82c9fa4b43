"""Which commands help with the batch of a rehearsal: it is in a home of its own, and its PingOne has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The home of a rehearsal. `program`: how `oathbulk` is typed in the shell of who reads of it."""

    home: Path
    program: str = "oathbulk"

    def write(self, command: str) -> str:
        """Write a command of `oathbulk` so that it meets this rehearsal's batch, and no other of the same name."""
        return f"OATHBULK_HOME={quote(str(self.home.absolute()))} {self.program}{command.removeprefix('oathbulk')}"

    def describe_end(self) -> str:
        """Say that nothing of the batch can go again, and how that is practised: with tokens of which some need fresh
        OTPs, served by a simulator that prints the whole way to their being active."""
        practise = f"{self.program} simulator --tokens 12 --pairs pairs.csv --troubles 1"
        return f"The PingOne of this rehearsal ended with it. To practise how tokens come back: {practise}"

    def describe_interruption(self) -> str:
        """Say what to do where no worker comes to the batch, which was interrupted unless it has just begun."""
        return f"If this rehearsal was interrupted, its PingOne ended with it: `{self.program} rehearse` begins anew."
