"""`oathbulk doctor`: checks whether everything that a run needs is there and works.

Begin with `command`, which names the checks in their order.
"""

from worker.cli.doctor.command import doctor

__all__ = ["doctor"]
