"""The audit: who commanded what for which batch, when, and on which ticket; a line that is changed later is found.

May import config, database and vault. Begin with `lines` (written and read) or `checking`.
"""

from worker.audit.actors import NO_KEY_CURE, SCHEDULE, Actor, name_this_person, the_schedule, the_worker, this_person
from worker.audit.checking import BrokenLine, CheckResult, check
from worker.audit.heads import (
    MissingHead,
    NotedHead,
    UnusableHead,
    find_heads_file,
    find_missing,
    read_heads,
    read_noted_heads,
)
from worker.audit.lines import GENESIS, append, has_authenticated_line, read

__all__ = [
    "GENESIS",
    "NO_KEY_CURE",
    "SCHEDULE",
    "Actor",
    "BrokenLine",
    "CheckResult",
    "MissingHead",
    "NotedHead",
    "UnusableHead",
    "append",
    "check",
    "find_heads_file",
    "find_missing",
    "has_authenticated_line",
    "name_this_person",
    "read",
    "read_heads",
    "read_noted_heads",
    "the_schedule",
    "the_worker",
    "this_person",
]
