"""A plugin of pytest's that notes which tests reach which lines, and how long each test takes.

Coverage measures each process that starts with COVERAGE_PROCESS_START; a process that a test starts finds the test's
name in PYTEST_CURRENT_TEST. The seconds of all tests are written to the file that TEST_SECONDS names."""

import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

_seconds = Counter[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if measured := coverage.Coverage.current():
        measured.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    # The processes that share the tests have reported all of them to this one.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ["TEST_SECONDS"]).write_text(json.dumps(_seconds))
