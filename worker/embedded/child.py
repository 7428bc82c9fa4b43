"""The program of a child process: runs a module as `__main__`, and ends with its parent.

Only `children` starts it, as `python -m worker.embedded.child FD GRACE MODULE ARGUMENT…`. FD is the reading end of a
pipe whose only writing end the parent holds: however the parent ends, the kernel closes that end, and the read returns.
Unlike prctl(2) this works on every system, and unlike a watchdog it needs no second process.
"""

import os
import runpy
import signal
import sys
import threading
import time


def main() -> None:
    """Run the module in the command line, and watch the parent meanwhile."""
    descriptor, grace, module, *arguments = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    threading.Thread(target=end_with_parent, args=(int(descriptor), float(grace)), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_with_parent(descriptor: int, grace: float) -> None:
    """Wait until the parent has ended; then ask this process to end, and `grace` seconds later kill its whole group."""
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
