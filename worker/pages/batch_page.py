"""The page of a batch, which the desk shows and `oathbulk report` writes as one file that needs nothing from
elsewhere."""

from __future__ import annotations

from typing import Any

from worker import __version__
from worker.pages.chart import draw_chart
from worker.pages.rendering import make_environment
from worker.reports.facts import BatchStatus
from worker.reports.overview import Overview
from worker.reports.sentences import explain_fleet


def describe_batch(status: BatchStatus, overview: Overview) -> dict[str, Any]:
    """What the template of the page tells."""
    return {
        "status": status,
        "overview": overview,
        "chart": draw_chart(overview.timeline),
        "notes": explain_fleet([status]),
    }


def write_file(status: BatchStatus, overview: Overview) -> str:
    """Write the page as a file: as the batch stands now, and without what only the desk can do."""
    template = make_environment().get_template("batch.html")
    return template.render(version=__version__, **describe_batch(status, overview))
