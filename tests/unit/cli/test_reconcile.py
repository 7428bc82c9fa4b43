"""What is said of a database that was compared with journals."""

from __future__ import annotations

from worker.batches.reconciliation import BatchFindings, Findings
from worker.cli.reconcile import describe_batch, describe_outcome


def test_one_record_is_told_as_one() -> None:
    july = BatchFindings("july", answered=1, strange=1)
    found = Findings({7: july})

    assert describe_batch(july) == [
        "july: of 1 record the database does not know an answer, of 0 it does not know that an OTP went out; their "
        "devices are read first.",
        "july: 1 record of the journal is not in it: it belongs to a batch that had its number before. Load that "
        "batch's file again, then reconcile again.",
    ]
    assert describe_outcome(found, is_written=False).endswith("To correct 1 record: the same command with --yes")
    assert describe_outcome(found, is_written=True) == "1 record was corrected."
