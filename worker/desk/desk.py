"""The desk as its pages know it: the installation that it shows, who comes in, and how a page is rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment
from starlette.responses import HTMLResponse, Response

from worker.desk.doors import Door, Visitor
from worker.desk.guard import FORM_KEY, Forms
from worker.installation.installation import Installation
from worker.pages.batch_page import make_environment

# Status codes of a form that was refused, or whose command was not possible.
NOT_DONE = (403, 409, 413)


@dataclass
class Desk:
    """What all pages share. `explain_failure` says what is the matter with a server. `is_read_only`: nothing can be
    commanded."""

    installation: Installation
    door: Door
    forms: Forms
    explain_failure: Callable[[Exception], str]
    is_read_only: bool = False
    # By session and batch: what the last command has done, until the batch's page has shown it.
    done: dict[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def templates(self) -> Environment:
        """What renders the pages."""
        environment = make_environment("worker.desk")
        environment.globals |= {"is_file": False, "link_to": link_to, "is_read_only": self.is_read_only}
        return environment

    def render(
        self, template: str, visitor: Visitor | None = None, status_code: int = 200, **context: Any
    ) -> HTMLResponse:
        """Render a page for this visitor; None: for somebody who may not come in."""
        page = self.templates.get_template(template).render(
            visitor=visitor, form_key=(FORM_KEY, self.forms.make_key(visitor)) if visitor else None, **context
        )
        return HTMLResponse(page, status_code)

    def refuse(self, status_code: int, sentence: str, visitor: Visitor | None = None) -> Response:
        """Say why there is no such page, or why nothing was done."""
        return self.render("problem.html", visitor, status_code, sentence=sentence, was_command=status_code in NOT_DONE)


def link_to(path: str, **parameters: str) -> str:
    """Write the address of a page. Names stand in the query, since a batch's name may hold any character."""
    given = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
