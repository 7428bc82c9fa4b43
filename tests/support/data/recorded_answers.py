"""Answers of PingOne's as they came, in tests/samples/pingone/."""

from pathlib import Path

from worker.pingone.wire import Envelope, open_envelope

SAMPLES = Path(__file__).parents[2] / "samples" / "pingone"

# Status, headers, body.
Recorded = tuple[int, dict[str, str], bytes]


def recorded(name: str) -> Recorded:
    """A recorded answer: status line and headers, an empty line, the body as it came."""
    head, _, body = (SAMPLES / f"{name}.http").read_bytes().partition(b"\n\n")
    status, *headers = head.decode().splitlines()
    return int(status.split()[1]), dict(line.split(": ", 1) for line in headers), body


def opened(name: str) -> Envelope:
    """A recorded answer as those read it that look for a user, a device or a token."""
    return open_envelope(*recorded(name))


def names_of(kind: str) -> set[str]:
    """The names of all recorded answers of a kind."""
    return {path.stem for path in (SAMPLES / kind).iterdir()}
