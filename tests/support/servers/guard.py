"""A guard: runs one server for the tests, and ends it when they stop it or are gone, kill -9 included.

Its standard input is a pipe from the process that runs the tests: a byte means stop, its end means that the
process is gone, and then the server's directory goes too. Its one line of output is the server's pid.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

STOP_TIMEOUT = 20.0


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    with Path(order["log"]).open("ab") as log:
        server = subprocess.Popen(order["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **order["options"])
    os.write(1, f"{server.pid}\n".encode())
    orphaned = threading.Event()
    threading.Thread(target=obey, args=(server, order["stop_signal"], orphaned), daemon=True).start()
    server.wait()
    if orphaned.is_set():
        shutil.rmtree(order["directory"], ignore_errors=True)


def obey(server: subprocess.Popen[bytes], stop_signal: int, orphaned: threading.Event) -> None:
    # Not sys.stdin: a thread that waits in there breaks the interpreter's exit.
    if not os.read(0, 1):
        orphaned.set()
    server.send_signal(stop_signal)
    time.sleep(STOP_TIMEOUT)
    server.kill()


if __name__ == "__main__":
    main()
