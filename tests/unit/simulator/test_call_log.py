"""The call log: complete in its file, bounded in memory, and without OTPs."""

import hashlib
import json

from worker.simulator.call_log import CallLog


def log_calls(call_log, count, **fields):
    entries = []
    for number in range(count):
        entry = call_log.open("POST", f"/{number}", float(number), 1_000_000_000.0)
        for name, value in fields.items():
            setattr(entry, name, value)
        call_log.close(entry, number + 0.5)
        entries.append(entry)
    return entries


def test_memory_keeps_the_latest_and_the_file_all(tmp_path):
    call_log = CallLog(salt="salt", kept=3, file=tmp_path / "call_log")
    log_calls(call_log, 5)
    assert [entry.number for entry in call_log.entries()] == [3, 4, 5]
    assert (call_log.counts()["calls"], call_log.counts()["forgotten"]) == (5, 2)
    lines = (tmp_path / "call_log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3, 4, 5]
    call_log.close_file()


def test_a_line_is_in_the_file_as_soon_as_its_call_has_ended(tmp_path):
    call_log = CallLog(salt="salt", file=tmp_path / "call_log")
    entry = call_log.open("GET", "/", 1.0, 2.0)
    assert (tmp_path / "call_log").read_text() == ""
    call_log.close(entry, 3.0)
    assert json.loads((tmp_path / "call_log").read_text()) == entry.to_dict()
    call_log.close_file()


def test_entries_are_read_on_from_a_number():
    call_log = CallLog(salt="salt", kept=4)
    log_calls(call_log, 6)
    assert [entry.number for entry in call_log.entries(after=0, limit=2)] == [3, 4]
    assert [entry.number for entry in call_log.entries(after=4)] == [5, 6]
    assert call_log.entries(after=6) == []


def test_numbers_go_on_after_clearing():
    call_log = CallLog(salt="salt")
    log_calls(call_log, 2, outcome="ACTIVE")
    call_log.clear()
    assert call_log.counts()["calls"] == 0
    assert call_log.counts()["outcomes"] == {}
    log_calls(call_log, 1)
    assert [entry.number for entry in call_log.entries(after=2)] == [3]
    assert call_log.counts()["forgotten"] == 0


def test_calls_are_counted_by_group():
    call_log = CallLog(salt="salt")
    log_calls(call_log, 2, operation="activate", status=200, outcome="ACTIVE", otp="x", took_effect=True)
    log_calls(call_log, 1, operation="read", fault="reset_before", client_gone=True)
    call_log.open("GET", "/", 1.0, 2.0)
    counts = call_log.counts()
    assert (counts["calls"], counts["open"]) == (4, 1)
    assert counts["operations"] == {"activate": 2, "read": 1}
    assert counts["statuses"] == {"200": 2, "none": 1}
    assert counts["faults"] == {"reset_before": 1}
    assert (counts["otp_posts"], counts["took_effect"], counts["client_gone"]) == (2, 2, 1)


def test_an_otp_is_kept_as_a_salted_fingerprint():
    fingerprint = CallLog(salt="salt").fingerprint("111111")
    assert fingerprint == hashlib.sha256(b"salt111111").hexdigest()
    assert fingerprint != CallLog(salt="another").fingerprint("111111")


def test_a_test_may_ask_for_otps():
    assert CallLog(salt="salt", plain_otps=True).fingerprint("111111") == "111111"
