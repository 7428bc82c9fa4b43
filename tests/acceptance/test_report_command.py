"""`oathbulk report`: what a person types, and the page that comes of it."""

from __future__ import annotations

import pytest
from support.data.tokens import make_tokens, write_shipment


@pytest.fixture
def loaded(desk):
    """A desk with a batch that was loaded and never ran."""
    write_shipment(desk.folder / "shipment.csv", make_tokens(3))
    assert desk.oathbulk("load", "shipment.csv", "--ticket", "CHG-7").code == 0
    return desk


def test_the_page_is_one_private_file(loaded):
    written = loaded.oathbulk("report", "shipment", "-o", "report.html")
    assert written.code == 0, written.stderr
    assert "0 of 3 tokens are active; the other 3 are still to do." in written.stdout
    assert [path.name for path in loaded.folder.iterdir() if path.name.startswith("report")] == ["report.html"]
    assert (loaded.folder / "report.html").stat().st_mode & 0o777 == 0o600
    page = (loaded.folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "CHG-7" in page


def test_standard_output_gets_the_page_and_nothing_else(loaded):
    page = loaded.oathbulk("report", "shipment", "-o", "-").stdout
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")


def test_what_cannot_be_written_is_refused_before_anything_is(loaded):
    (loaded.folder / "link.html").symlink_to(loaded.folder / "elsewhere.html")
    for arguments, said in (
        (("shipment", "-o", "link.html"), "is a link"),
        (("shipment", "-o", "nowhere/report.html"), "cannot be written"),
        (("another", "-o", "other.html"), "no batch is named 'another'"),
    ):
        refused = loaded.oathbulk("report", *arguments)
        assert refused.code == 2
        assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert [path.name for path in loaded.folder.iterdir() if path.name.startswith(("report.", "other", "else"))] == []
