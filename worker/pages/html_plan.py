"""The plan as a page of HTML: one file that needs nothing from elsewhere, to be printed and signed."""

from __future__ import annotations

from worker.pages import plan_sentences
from worker.pages.plan_contents import Plan
from worker.pages.rendering import make_environment


def render_html(plan: Plan) -> str:
    """Write the page."""
    return make_environment().get_template("plan.html").render(plan=plan, say_plan=plan_sentences)
