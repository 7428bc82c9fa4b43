"""Python scripts as processes of their own: what each prints on stderr, into a pipe or on a terminal."""

import os
import pty
import subprocess
import sys

# Seconds.
TIMEOUT = 60.0


def run_piped(script: str) -> str:
    """Run a script: what it prints on stderr; on stdout nothing may stand. Raises CalledProcessError."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert ran.stdout == ""
    return ran.stderr


def run_on_a_terminal(script: str) -> str:
    """Run a script: what a terminal shows of its stderr, each line ended as a terminal ends it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = _read_terminal(ours)
    assert process.returncode == 0
    return shown


def _read_terminal(ours: int) -> str:
    """Read what a terminal shows until whoever writes there is gone, in as many pieces as it comes; then close it."""
    shown = bytearray()
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        # Linux' way of saying that the other side is closed.
        pass
    finally:
        os.close(ours)
    return shown.decode()
