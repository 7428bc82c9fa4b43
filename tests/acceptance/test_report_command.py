"""`oathbulk report`: what a person types, and the files that come of it."""

from __future__ import annotations

import json
import subprocess

import pytest
from support.data.tokens import make_tokens, write_shipment

FORMS = ("html", "json", "csv")


@pytest.fixture
def loaded(desk):
    """A desk with a batch that was loaded and never ran."""
    write_shipment(desk.folder / "shipment.csv", make_tokens(3))
    assert desk.oathbulk("load", "shipment.csv", "--ticket", "CHG-7").code == 0
    return desk


def test_each_form_is_a_private_file_that_sha256sum_takes(loaded):
    for form in FORMS:
        written = loaded.oathbulk("report", "shipment", "-o", f"report.{form}")
        assert written.code == 0, written.stderr
        assert "0 of 3 tokens are active; the other 3 are still to do." in written.stdout
        for name in (f"report.{form}", f"report.{form}.sha256"):
            assert (loaded.folder / name).stat().st_mode & 0o777 == 0o600
    sums = [f"report.{form}.sha256" for form in FORMS]
    checked = subprocess.run(["sha256sum", "--strict", "-c", *sums], cwd=loaded.folder, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, 3)
    assert json.loads((loaded.folder / "report.json").read_text())["origin"]["ticket"] == "CHG-7"
    assert (loaded.folder / "report.html").read_text().startswith("<!doctype html>")
    assert (loaded.folder / "report.csv").read_text().count("\n") == 4


def test_standard_output_gets_the_report_and_nothing_else(loaded):
    assert loaded.oathbulk("report", "shipment", "-o", "-").stdout.startswith("<!doctype html>")
    printed = loaded.oathbulk("report", "shipment", "-o", "-", "--format", "json")
    assert (printed.json["batch"], len(printed.json["tokens"])) == ("shipment", 3)
    assert list(loaded.folder.glob("*sha256")) == []


def test_the_format_overrules_the_files_name(loaded):
    assert loaded.oathbulk("report", "shipment", "-o", "report.txt", "--format", "csv").code == 0
    assert (loaded.folder / "report.txt").read_text().startswith("serial,row,")


def test_what_cannot_be_written_is_refused_before_anything_is(loaded):
    (loaded.folder / "link.html").symlink_to(loaded.folder / "elsewhere.html")
    (loaded.folder / "report.html.sha256").mkdir()
    for arguments, said in (
        (("shipment", "-o", "report"), "say --format"),
        (("shipment", "-o", "link.html"), "is a link"),
        (("shipment", "-o", "report.html"), "is a link, a device or a directory"),
        (("shipment", "-o", "nowhere/report.csv"), "cannot be written"),
        (("another", "-o", "other.html"), "no batch is named 'another'"),
    ):
        refused = loaded.oathbulk("report", *arguments)
        assert refused.code == 2
        assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert sorted(path.name for path in loaded.folder.iterdir() if path.name.startswith(("report.", "other"))) == [
        "report.html.sha256"
    ]
