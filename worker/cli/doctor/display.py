"""How the findings are shown: a line for each, below it the cure, and a last line that sums up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group

from worker.cli.console import console
from worker.cli.doctor.finding import Finding, State
from worker.cli.layout import label_text, measure_room
from worker.observability.counting import count_things

_MARKS = {State.WELL: "✓", State.FAULT: "✗", State.NOT_KNOWN: "?"}
# The label in front of each is dim.
_STYLES = {State.WELL: "not dim", State.FAULT: "not dim red", State.NOT_KNOWN: "not dim yellow"}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print all findings, in their order; in a pipe each stays one line."""
    room, width = measure_room(console), max(len(finding.check) for finding in findings) + 4
    for finding in findings:
        label = f"{_MARKS[finding.state]} {finding.check}"
        lines = label_text(label, finding.detail, room, width=width, style=_STYLES[finding.state])
        if finding.cure:
            lines += label_text("", f"→ {finding.cure}", room, width=width, style="not dim bold")
        console.print(Group(*lines))
    console.print(_sum_up(findings))


def _sum_up(findings: Sequence[Finding]) -> str:
    """Say in a sentence how many faults there are, and how much is not known."""
    counts = Counter(finding.state for finding in findings)
    faults, unknown = counts[State.FAULT], counts[State.NOT_KNOWN]
    if faults:
        told = f"{faults} of {count_things(len(findings), 'check')} found a fault"
        return f"{told}; {unknown} could not be made." if unknown else f"{told}."
    return f"All is well; {unknown} of {len(findings)} checks could not be made." if unknown else "All is well."
