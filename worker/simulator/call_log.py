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
    """One call to the simulator, numbered by arrival. `…_at` are the machine's monotonic seconds, `time` is Unix time.

    `device_id` is the one in the path, and `made_device_id` that of a pairing. `serial_number` is that of the token
    which is paired, imported by itself or revoked, `serial_numbers` are those of a job that imports. What a job did is
    known when it has run, which may be after its call.

    `otp` is a fingerprint, or the OTP itself if the call log was made with `plain_otps`. `outcome` is what the call
    came to in the world; `status` and `code` are what was answered, None where no answer was given. `took_effect`: the
    call changed the world, at `effect_at`. `ended_at` is None while the call is open. `client_gone`: the client had
    closed the connection before the answer was handed over.
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
    serial_number: str | None = None
    serial_numbers: list[str] | None = None
    job_id: str | None = None
    made_device_id: str | None = None
    made_token_id: str | None = None
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
    """Keeps the latest `kept` calls in memory, sums over all calls, and every call in a file if one is named.

    The file gets a line of JSON when a call ends, so its lines are in the order of `ended_at`.
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

    def open(self, method: str, path: str, now: float, unix_time: float) -> Entry:
        """Begin an entry for a call that arrived at `now`, in monotonic seconds."""
        self._arrived += 1
        entry = Entry(self._arrived, unix_time, now, method, path)
        self._entries.append(entry)
        return entry

    def close(self, entry: Entry, now: float) -> None:
        """End an entry at `now`: count it and write it to the file at once, so that it survives if the simulator is
        killed."""
        entry.ended_at = now
        self._ended += 1
        self._count(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry.to_dict(), separators=(",", ":")) + "\n")
            self._file.flush()

    def fingerprint(self, otp: str) -> str:
        """Hash salt and OTP with SHA-256, in hexadecimal; or return the OTP itself if `plain_otps` is set."""
        return otp if self._plain_otps else hashlib.sha256(self._salt + otp.encode("utf-8", "replace")).hexdigest()

    def entries(self, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Up to `limit` entries still in memory whose number is greater than `after`, in the order of arrival."""
        skipped = max(0, after - (self._arrived - len(self._entries)))
        return list(self._entries)[skipped : None if limit is None else skipped + limit]

    def counts(self) -> dict[str, Any]:
        """Sums since the last `clear`, by name. `forgotten` calls are no longer in memory, `open` ones have not
        ended."""
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
        """Forget all entries and sums. Numbers are not restarted, and calls that are open now are counted when they
        end."""
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
