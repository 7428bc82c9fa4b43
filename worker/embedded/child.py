"""The launcher of a child process: it runs a module as `__main__`, and ends it when its parent is gone.

`python -m worker.embedded.child FD GRACE MODULE ARGUMENT…` is started by `children` alone. FD is the reading
end of a pipe whose only writing end the parent keeps: however the parent ends, the kernel closes that, and
the read returns. Unlike prctl(2) this is portable, and unlike a watchdog in between it is one process.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    descriptor, grace, module, *arguments = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    threading.Thread(target=end_with_parent, args=(int(descriptor), float(grace)), daemon=True).start()
    # Celery puts the folder that it runs in first, unless it stands somewhere already: last, so that nothing in there
    # takes the place of a package.
    sys.path.append(str(Path.cwd()))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_with_parent(descriptor: int, grace: float) -> None:
    """When the parent is gone, ask this process to end, and `grace` seconds later kill its whole group."""
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
