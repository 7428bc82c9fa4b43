"""The audit: who did what to which batch, when and on which ticket, in lines that show when one was changed since."""

from worker.audit.actors import SCHEDULE, Actor, the_schedule, this_person
from worker.audit.chain import GENESIS
from worker.audit.checking import Broken, Checked, check
from worker.audit.heads import place_of, show_place
from worker.audit.lines import append, has_authenticated_line, read
from worker.audit.noted_heads import Missing, NotedHead, UnusableHead, find_missing, read_heads
from worker.audit.protection import NO_KEY_CURE

__all__ = [
    "GENESIS",
    "NO_KEY_CURE",
    "SCHEDULE",
    "Actor",
    "Broken",
    "Checked",
    "Missing",
    "NotedHead",
    "UnusableHead",
    "append",
    "check",
    "find_missing",
    "has_authenticated_line",
    "place_of",
    "read",
    "read_heads",
    "show_place",
    "the_schedule",
    "this_person",
]
