"""The call log: what each call to the simulator asked for and was answered, for judging a client afterwards."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(slots=True)
class Entry:
    """One call, numbered by arrival. `…_at` are the machine's monotonic seconds, `time` is Unix time.

    `otp` is a fingerprint (or the OTP itself if the call log was told so). `outcome` is what the world made of
    the call, `status` and `code` what was answered: None where no answer was given. `took_effect`: the call
    changed the world, at `effect_at`. `ended_at` is None while the call is open. `client_gone`: the client
    had closed the connection before the answer was handed over.
    """

    number: int
    time: float
    arrived_at: float
    method: str
    path: str
    session_id: str | None = None
    transaction_id: str | None = None
    correlation_id: str | None = None
    environment_id: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    operation: str | None = None
    otp: str | None = None
    oath_resync: bool | None = None
    took_effect: bool = False
    effect_at: float | None = None
    outcome: str | None = None
    fault: str | None = None
    status: int | None = None
    code: str | None = None
    detail_code: str | None = None
    error_id: str | None = None
    client_gone: bool = False
    ended_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Entry.__slots__}


class CallLog:
    """The latest `kept` calls in memory, the sums of all, and all of them in a file if one is named.

    The file gets a line when a call ends, so its lines are in the order of `ended_at`.
    """

    def __init__(self, *, salt: str, kept: int = 100_000, file: Path | None = None, plain_otps: bool = False) -> None:
        self._salt = salt.encode()
        self._plain_otps = plain_otps
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._file: TextIO | None = file.open("a", encoding="utf-8") if file else None
        self._arrived = 0
        self._ended = 0
        self._cleared = 0
        self._sums: Counter[tuple[str, str]] = Counter()

    def open(self, method: str, path: str, now: float, wall: float) -> Entry:
        self._arrived += 1
        entry = Entry(self._arrived, wall, now, method, path)
        self._entries.append(entry)
        return entry

    def close(self, entry: Entry, now: float) -> None:
        """End an entry: count it and write it down, at once, so that a killed simulator leaves it behind."""
        entry.ended_at = now
        self._ended += 1
        self._count(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry.to_dict(), separators=(",", ":")) + "\n")
            self._file.flush()

    def fingerprint(self, otp: str) -> str:
        """sha256 over the salt and the OTP, in hexadecimal; or the OTP itself, where tests asked for it."""
        return otp if self._plain_otps else hashlib.sha256(self._salt + otp.encode("utf-8", "replace")).hexdigest()

    def entries(self, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """The entries still kept whose number is greater than `after`, in the order of their arrival."""
        skipped = max(0, after - (self._arrived - len(self._entries)))
        return list(self._entries)[skipped : None if limit is None else skipped + limit]

    def counts(self) -> dict[str, Any]:
        """Sums since the last `clear`; `forgotten` calls have left memory, `open` ones have not ended."""
        counts: dict[str, Any] = {
            "calls": self._arrived - self._cleared,
            "forgotten": self._arrived - self._cleared - len(self._entries),
            "open": self._arrived - self._ended,
        }
        for group in ("operations", "statuses", "outcomes", "faults"):
            counts[group] = {name: n for (kind, name), n in sorted(self._sums.items()) if kind == group}
        for name in ("otp_posts", "took_effect", "client_gone"):
            counts[name] = self._sums[("calls", name)]
        return counts

    def clear(self) -> None:
        """Forget all entries and sums. Numbers go on, and calls that are open still end, and count."""
        self._entries.clear()
        self._sums.clear()
        self._cleared = self._arrived

    def close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def _count(self, entry: Entry) -> None:
        sums = self._sums
        sums[("operations", entry.operation or "unknown")] += 1
        sums[("statuses", str(entry.status or "none"))] += 1
        if entry.outcome:
            sums[("outcomes", entry.outcome)] += 1
        if entry.fault:
            sums[("faults", entry.fault)] += 1
        for name in ("took_effect", "client_gone"):
            if getattr(entry, name):
                sums[("calls", name)] += 1
        if entry.otp is not None:
            sums[("calls", "otp_posts")] += 1
