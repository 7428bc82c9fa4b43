"""The call log: what each call to the simulator asked for and was answered, for judging a client afterwards."""

import hashlib
import json
import sys
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, TextIO

from support.simulator.readings import read_fields
from worker.simulator.calls import Answer, Call

# What an operation comes to that does what it is asked for.
OUTCOMES = {
    **{"activate": "ACTIVE", "pair": "PAIRED", "remove_order": "ORDER_REMOVED", "access_token": "ISSUED"},
    **{"unpair": "UNPAIR", "import_tokens": "JOB_TAKEN", "revoke_tokens": "JOB_TAKEN"},
}
# What an activation comes to that is refused, by the answer's detail; of others, the detail itself.
REFUSALS = {"INVALID_VALUE": "ALREADY_ACTIVE", "DEVICE_LOCKED": "LOCKED", "DEVICE_BLOCKED": "BLOCKED"}
# Refusals of an activation whose OTP was checked, and so changed something.
CHECKED = ("EXTRA_OTP_REQUIRED", "INVALID_OTP")


@dataclass(slots=True)
class Entry:
    """One call to the simulator, numbered by arrival. `…_at` are the machine's monotonic seconds, `time` is Unix time.

    `device_id` is the one in the path, and `made_device_id` that of a pairing. `serial_number` is that of the token
    which is paired, `serial_numbers` are those of a job that imports. What a job did is known when it has run, which
    may be after its call.

    `otp` is a fingerprint. `outcome` is what the call came to in the world; `status` and `detail_code` are what was
    answered, None where no answer was given. `took_effect`: the call changed the world, at `effect_at`. `ended_at` is
    None while the call is open. `client_gone`: the client had closed the connection before the answer was handed over.
    """

    number: int
    time: float
    arrived_at: float
    method: str
    path: str
    operation: str | None
    transaction_id: str | None
    environment_id: str
    user_id: str | None
    device_id: str | None
    job_id: str | None = None
    serial_number: str | None = None
    serial_numbers: list[str] | None = None
    made_device_id: str | None = None
    otp: str | None = None
    oath_resync: bool | None = None
    took_effect: bool = False
    effect_at: float | None = None
    outcome: str | None = None
    fault: str | None = None
    status: int | None = None
    detail_code: str | None = None
    client_gone: bool = False
    ended_at: float | None = None

    def note_outcome(self, call: Call, answer: Answer, now: float) -> None:
        """Write down what an operation came to, which was over at `now`."""
        if answer.status < 400:
            self.outcome = OUTCOMES.get(call.operation or "")
            self.took_effect = self.outcome not in (None, "ISSUED")
            made = answer.headers.get("location", "").rpartition("/")[2]
            match call.operation:
                case "pair":
                    self.made_device_id = made
                case "import_tokens" | "revoke_tokens":
                    self.job_id = made
                case "read_job":
                    self.outcome = read_fields(answer.body)["status"]
        elif call.operation == "activate":
            detail = find_detail(answer)
            self.outcome, self.took_effect = REFUSALS.get(detail or "", detail), detail in CHECKED
        if self.took_effect:
            self.effect_at = now


def find_detail(answer: Answer) -> str | None:
    """The code of the first detail of a refusal; None if it has none."""
    details = read_fields(answer.body).get("details") if answer.status >= 400 else None
    return str(details[0]["code"]) if details else None


class CallLog:
    """Keeps the latest calls in memory, sums over all calls, and every call in a file if there is one. `makers`: the
    number of the call that made each device, or posted each job, by its id.

    The file gets a line of JSON when a call ends, so its lines are in the order of `ended_at`.
    """

    def __init__(self, *, salt: str, kept: int = 10_000, file: TextIO | None = None) -> None:
        self._salt = salt.encode()
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._file = file
        self._arrived = 0
        self._ended = 0
        self.clear()

    def open(self, call: Call, now: float, unix_time: float) -> Entry:
        """Begin an entry for a call that arrived at `now`, in monotonic seconds."""
        self._arrived += 1
        transaction_id = call.header(b"x-ping-external-transaction-id")
        entry = Entry(
            *(self._arrived, unix_time, now, call.method, call.path, call.operation, transaction_id),
            *(call.environment_id, call.resource_id or None, call.device_id or None),
            job_id=call.resource_id if call.operation == "read_job" else None,
        )
        self._entries.append(entry)
        if self._began_at is None and call.operation == "activate":
            self._began_at = now
        return entry

    def note_body(self, entry: Entry, body: bytes) -> None:
        """Write the OTP or the serial numbers of a request into its entry, before its operation is done or refused."""
        fields = read_fields(body)
        match entry.operation, fields:
            case "pair", {"serialNumber": str() as serial_number}:
                entry.serial_number = sys.intern(serial_number)
            case "import_tokens", {"tokens": list() as tokens}:
                entry.serial_numbers = [str(each.get("serialNumber")) for each in tokens if isinstance(each, dict)]
            case "activate", {"otp": str() as otp}:
                entry.otp = hashlib.sha256(self._salt + otp.encode("utf-8", "replace")).hexdigest()
                resync = fields.get("oathResync")
                entry.oath_resync = resync if isinstance(resync, bool) else None

    def close(self, entry: Entry, now: float) -> None:
        """End an entry at `now`: count it and write it to the file at once, so that it survives if the simulator is
        killed."""
        entry.ended_at = self._ended_at = now
        self._ended += 1
        self._sums["operations"][entry.operation or "unknown"] += 1
        self._sums["statuses"][str(entry.status or "none")] += 1
        if entry.fault:
            self._sums["faults"][entry.fault] += 1
        self._otp_posts += entry.otp is not None
        self._client_gone += entry.client_gone
        if self._file is not None:
            values = {name: getattr(entry, name) for name in Entry.__slots__}
            self._file.write(json.dumps(values, separators=(",", ":")) + "\n")
            self._file.flush()

    def note_made(self, entry: Entry) -> None:
        """Remember which call made what it made."""
        made = entry.made_device_id or (entry.job_id if entry.took_effect else None)
        if made is not None:
            self.makers[made] = entry.number

    def entries(self) -> list[Entry]:
        """The calls that are still in memory, in the order of arrival."""
        return list(self._entries)

    def counts(self) -> dict[str, Any]:
        """Sums since the last `clear`, by name. `open` calls have not ended; `began_at` is when the first activation
        arrived, and `ended_at` when the last call was over, in monotonic seconds."""
        return {
            **{group: dict(sorted(sums.items())) for group, sums in self._sums.items()},
            "open": self._arrived - self._ended,
            "otp_posts": self._otp_posts,
            "client_gone": self._client_gone,
            "began_at": self._began_at,
            "ended_at": self._ended_at,
        }

    def clear(self) -> None:
        """Forget all entries and sums. Numbers are not restarted, and calls that are open now are counted when they
        end."""
        self._entries.clear()
        self.makers: dict[str, int] = {}
        self._sums: dict[str, Counter[str]] = {name: Counter() for name in ("operations", "statuses", "faults")}
        self._otp_posts = self._client_gone = 0
        self._began_at: float | None = None
        self._ended_at: float | None = None
