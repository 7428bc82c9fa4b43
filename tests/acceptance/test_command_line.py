"""The commands around a run: what they print, and how they refuse. Every refusal is a line with its cure."""

from __future__ import annotations

import csv

import pytest
from support.data.tokens import make_tokens, write_shipment


def test_a_file_is_loaded_once_however_often_it_is_given(desk):
    write_shipment(desk.folder / "shipment.csv", make_tokens(3))
    first = desk.oathbulk("load", "shipment.csv", "--json")
    assert first.code == 0
    counts = {"total": 3, "rows_refused": 0, "left_out": 0}
    (not_known,) = first.json["not_known"]
    assert not_known.startswith("what PingOne would tell: PingOne is out of reach")
    told = {"findings": [], "not_known": [not_known]}
    assert first.json == {"batch": "shipment", "is_new": True, "refused": []} | counts | told
    (desk.folder / "shipment.csv").rename(desk.folder / "renamed.csv")
    second = desk.oathbulk("load", "renamed.csv", "--batch", "again")
    assert second.code == 0
    assert "is batch shipment already" in second.stdout
    assert [batch["batch"] for batch in desk.oathbulk("status", "--json").json["batches"]] == ["shipment"]


def test_a_check_names_what_it_refuses_and_writes_nothing(desk):
    tokens = make_tokens(3)
    write_shipment(desk.folder / "shipment.csv", [*tokens, tokens[0]])
    checked = desk.oathbulk("check", "shipment.csv", "--json")
    assert checked.code == 1
    assert checked.json["file"] == "shipment.csv"
    assert (checked.json["rows"], checked.json["rows_refused"]) == (3, 1)
    (refused,) = checked.json["refused"]
    assert (refused["row"], refused["serial"]) == (5, tokens[0].serial)
    assert "stands on row 2 of this file already" in refused["reason"]
    assert not desk.home.exists()


def test_another_file_does_not_get_the_name_of_a_batch(desk):
    write_shipment(desk.folder / "shipment.csv", make_tokens(2))
    write_shipment(desk.folder / "other.csv", make_tokens(2, prefix="OTHER"))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    taken = desk.oathbulk("load", "other.csv", "--batch", "shipment")
    assert taken.code == 2
    assert taken.stderr.endswith("such as: oathbulk load other.csv --batch shipment-2\n")


def test_an_export_has_the_files_columns_and_how_each_row_ended(set_up):
    tokens = make_tokens(5, wrong=1)
    desk, _ = set_up(tokens)
    write_shipment(desk.folder / "shipment.csv", tokens, Carton=["7"] * 5)
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("export", "shipment", "-o", "before.csv", "--with-otps").code == 0
    before = read(desk.folder / "before.csv")
    assert [(row["otp1"], row["otp2"]) for row in before] == [token.otps for token in tokens]
    assert {row["status"] for row in before} == {"pending"}

    assert desk.oathbulk("run", "shipment.csv").code == 1
    result = desk.oathbulk("export", "shipment", "-o", "after.csv")
    assert "oathbulk mend" not in result.stdout
    assert result.code == 0
    assert "Wrote 5 records" in result.stdout
    after = read(desk.folder / "after.csv")
    assert list(after[0]) == [
        *("serial", "otp1", "otp2", "user_id", "device_id", "Carton"),
        *("status", "reason", "detail", "pingone_error_id", "correlation_id", "attempts", "otp_posts"),
        "file_row",
    ]
    assert [row["serial"] for row in after] == [token.serial for token in tokens]
    assert {row["Carton"] for row in after} == {"7"}
    assert {row["otp1"] + row["otp2"] for row in after} == {""}
    assert [row["status"] for row in after] == ["active"] * 4 + ["dead_letter"]
    assert after[4]["reason"] == "invalid_otp"
    assert (desk.folder / "after.csv").stat().st_mode & 0o077 == 0
    assert (desk.home / "oathbulk.db").stat().st_mode & 0o077 == 0

    # The OTPs of what is active are gone; those of a dead letter a person may see.
    dead = desk.oathbulk("export", "shipment", "-o", "dead.csv", "--with-otps", "--status", "dead_letter")
    assert "Correct it (fresh OTPs, or other ids), then: oathbulk mend shipment dead.csv\n" in dead.stdout
    assert dead.code == 0
    (row,) = read(desk.folder / "dead.csv")
    assert (row["serial"], row["otp1"]) == (tokens[4].serial, tokens[4].otps[0])
    # Its OTP was refused, so a replay has none to send.
    replay = desk.oathbulk("replay", "shipment")
    assert "0 records of shipment go again" in replay.stdout
    assert "  1 invalid_otp: fresh OTPs are needed" in replay.stdout
    typed = replay.stdout.splitlines()[-1].partition("oathbulk ")[2]
    assert typed == "export shipment --reason invalid_otp -o shipment-fresh.csv"
    assert desk.oathbulk(*typed.split()).stdout.startswith("Wrote 1 record of shipment to shipment-fresh.csv.\n")
    replay = desk.oathbulk("replay", "shipment", "--reason", "locked")
    assert "No dead letter of shipment has the reason locked." in replay.stdout


def test_a_refused_row_comes_back_with_its_serial_number_and_the_rest_is_asked_for(set_up):
    desk, _ = set_up(make_tokens(2))
    lines = (desk.folder / "shipment.csv").read_text().splitlines()
    serial, _, *others = lines[1].split(",")
    (desk.folder / "shipment.csv").write_text("\n".join([lines[0], ",".join([serial, "", *others]), *lines[2:], ""]))
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 1
    for options in (["--left"], ["--status", "refused"]):
        told = desk.oathbulk("export", "shipment", *options, "-o", "back.csv").stdout
        assert "Of 1 row that was refused only the serial number is kept: write the other cells too" in told
        (row,) = read(desk.folder / "back.csv")
        assert (row["serial"], row["user_id"]) == (serial, "")


def test_no_file_takes_the_place_of_otps_unasked(set_up):
    desk, _ = set_up(make_tokens(2))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    written = (desk.folder / "shipment.csv").read_bytes()
    for options in ((), ("--hand-out",), ("--with-otps",), ("--left",), ("--status", "refused")):
        refused = desk.oathbulk("export", "shipment", "-o", "shipment.csv", *options)
        assert (refused.code, "shipment.csv holds OTPs" in refused.stderr) == (2, True), refused.stderr
        assert (desk.folder / "shipment.csv").read_bytes() == written
    for other in (
        ("check", "shipment.csv", "-o"),
        ("report", "shipment", "-o"),
        ("db", "backup"),
    ):
        refused = desk.oathbulk(*other, "shipment.csv")
        assert (refused.code, "shipment.csv holds OTPs" in refused.stderr) == (2, True), refused.stderr
        assert (desk.folder / "shipment.csv").read_bytes() == written
    assert desk.oathbulk("export", "shipment", "-o", "shipment.csv", "--overwrite").code == 0
    assert {row["otp1"] for row in read(desk.folder / "shipment.csv")} == {""}
    # Nobody wrote OTPs into this one.
    assert desk.oathbulk("export", "shipment", "-o", "shipment.csv").code == 0


def test_an_export_goes_to_standard_output_alone(set_up):
    desk, _ = set_up(make_tokens(2))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    for options in ((), ("--hand-out",), ("--with-otps",)):
        assert desk.oathbulk("export", "shipment", "-o", "export.csv", *options).code == 0
        written = desk.oathbulk("export", "shipment", "-o", "-", *options)
        assert written.code == 0
        assert written.stdout.encode() == (desk.folder / "export.csv").read_bytes().replace(b"\r\n", b"\n")
        assert written.stderr.splitlines()[-1] in (
            "Wrote 2 records of shipment.",
            "Wrote 0 active tokens of shipment.",
        )
    assert sorted(path.name for path in desk.folder.glob("[!.]*")) == ["export.csv", "shipment.csv"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        ("", "is empty"),
        ("serial,otp1,otp2,user_id,device_id\nACME1,12,34,nobody,nothing\n", "its only row cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_2(desk, content, complaint):
    if content is not None:
        (desk.folder / "shipment.csv").write_text(content)
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 2
    assert is_clear(result)
    assert "shipment.csv" in result.stderr
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"PINGONE_CLIENT_SECRET": "", "PINGONE_RATE": "fast", "PINGONE_API_URL": "http://api.pingone.example/v1"},
            ["PINGONE_CLIENT_SECRET is not set", "PINGONE_RATE ", "PINGONE_API_URL must be an https:// URL"],
        ),
        (
            {"OATHBULK_CONCURRENCY": "0", "OATHBULK_REPLAY_CRON": "now and then"},
            ["OATHBULK_CONCURRENCY ", "OATHBULK_REPLAY_CRON must be five cron fields"],
        ),
        ({"OATHBULK_ENCRYPTION_KEYS": "hidden"}, ["OATHBULK_ENCRYPTION_KEYS"]),
        ({"OATHBULK_DATABASE_URL": "shelf"}, ["OATHBULK_DATABASE_URL"]),
        ({"OATHBULK_DATABASE_URL": "postgresql+psycopg://me:hidden@127.0.0.1:1/none"}, ["OATHBULK_DATABASE_URL"]),
        # The settings are right, and nobody is there.
        ({}, ["PingOne is out of reach", "PINGONE_TOKEN_URL"]),
    ],
)
def test_a_setting_that_is_wrong_or_leads_nowhere_is_a_3(desk, settings, named):
    write_shipment(desk.folder / "shipment.csv", make_tokens(2))
    result = desk.oathbulk("run", "shipment.csv", **settings)
    assert result.code == 3
    assert is_clear(result)
    assert all(name in result.stderr for name in named), result.stderr
    assert "hidden" not in result.stderr


def test_an_environment_that_is_not_configured_is_a_3_with_the_section_to_add(desk):
    write_shipment(desk.folder / "shipment.csv", make_tokens(2))
    desk.home.mkdir(mode=0o700)
    (desk.home / "oathbulk.toml").write_text("[environments.prod]\n")
    result = desk.oathbulk("load", "shipment.csv", "--environment", "staging")
    assert result.code == 3
    assert is_clear(result)
    assert "[environments.staging]" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run",), "FILE"),
        (("pause", "unheard-of"), "nothing was loaded yet"),
        (("export", "unheard-of", "-o", "export.csv"), "nothing was loaded yet"),
        (("export", "unheard-of", "-o", "export.csv", "--hand-out"), "nothing was loaded yet"),
        (("export", "some", "-o", "export.csv", "--hand-out", "--with-otps"), "leave out --with-otps"),
        (("export", "some", "-o", "export.csv", "--hand-out", "--status", "active"), "leave out --status"),
        (("export", "some", "-o", "export.csv", "--left", "--status", "active"), "leave out --status"),
        (("export", "some", "-o", "export.csv", "--left", "--hand-out"), "leave out --hand-out"),
        (("replay", "unheard-of", "--reason", "bad_luck"), "bad_luck"),
    ],
)
def test_wrong_usage_is_a_2(desk, arguments, complaint):
    result = desk.oathbulk(*arguments)
    assert result.code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(desk.folder.glob("export.csv*"))


@pytest.mark.parametrize("words", ["pause", "export -o export.csv", "export -o export.csv --hand-out", "verify"])
def test_a_batch_that_was_never_loaded_is_named_with_those_that_were(set_up, words):
    desk, _ = set_up(make_tokens(1))
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    command, *options = words.split()
    result = desk.oathbulk(command, "unheard-of", *options)
    assert result.code == 2
    assert "no batch is named 'unheard-of': the latest are shipment" in result.stderr
    assert not list(desk.folder.glob("export.csv*"))


def is_clear(result):
    """One line, and no traceback; before it may stand where the home is, what is wrong with rows, who is called."""
    told_before = ("Home: ", "row ", "PingOne's API is called at ")
    lines = [line for line in result.stderr.splitlines() if not line.startswith(told_before)]
    return len(lines) == 1 and lines[0].startswith("oathbulk: ")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
