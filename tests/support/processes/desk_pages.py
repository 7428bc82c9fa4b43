"""A browser before a desk that runs as a process: the link that it prints, and its first page."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from support.processes.running_command import TIMEOUT
from support.processes.waiting import wait_until

_LINK = re.compile(r"http://\S+/enter\?key=\S+")


def enter(browser: httpx.Client, read_output: Callable[[], str]) -> str:
    """Go in by the link that the desk prints, and stay at its address: the first page. `browser` follows
    redirections."""
    found = wait_until(lambda: _LINK.search(read_output()), TIMEOUT, "the desk prints its link")
    answer = browser.get(found[0])
    assert answer.status_code == 200, answer.text
    browser.base_url = found[0].partition("/enter")[0]
    return answer.text


def make_browser() -> httpx.Client:
    """A browser that needs no proxy."""
    return httpx.Client(trust_env=False, timeout=60, follow_redirects=True)
