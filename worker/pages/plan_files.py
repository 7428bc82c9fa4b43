"""The forms of a plan: a page for people, and JSON for machines."""

from __future__ import annotations

from enum import StrEnum

from worker.pages.json_plan import render_json
from worker.pages.plan_contents import Plan


class PlanForm(StrEnum):
    """A form of a plan, which is also the suffix of its file."""

    HTML = "html"
    JSON = "json"


def render_plan(form: PlanForm, plan: Plan) -> str:
    """Write the plan in this form."""
    if form == PlanForm.JSON:
        return render_json(plan)
    # Not at the top: otherwise every command would import Jinja, for what few commands do.
    from worker.pages.html_plan import render_html

    return render_html(plan)
