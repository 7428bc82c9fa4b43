"""The pages name what is there, and all of it: commands and options, targets of make, links and their anchors, metrics,
files, settings, exit codes, units, locks; each reason, cause, finding and check that a person may meet, and no message
that nobody prints.

That names of settings exist, `unit/config/test_sources.py` sees to; that what pages show is what is printed,
`acceptance/test_pages.py`."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic_core import to_jsonable_python
from support.data.facts import make_reading, write_metrics
from support.pages.command_lines import OPTIONS, explain_unknown, find_command_lines, find_options
from support.pages.reading import CHECKOUT, PAGES, find_anchors, find_blocks, find_code, find_links, read_page
from support.processes.systemd_units import NAMES

from models.reason import PASSING, PauseReason, Reason
from models.row_fault import RowFault
from worker.cli import exit_codes
from worker.cli.command_list import COMMANDS
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.preflight.findings import Question
from worker.preflight.tenant import DEVICE_TEXTS, PERSON_TEXTS, TOKEN_TEXTS
from worker.reports.stall import Cause
from worker.simulator.world import Settings as SimulatorSettings

# A file or directory of the checkout, as a page writes it; NNNN is what the reader is to choose.
NAMED = re.compile(r"(?<![\w./-])(?:worker|models|migrations|tests|docs|\.ci|\.github)/[\w./-]*[\w/]")
TARGETS = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
# Options in the text of pages that belong to other programs than ours.
FOREIGN = {
    "docs/decisions/0002-threads-that-write-together.md": {"--all-tasks"},
    "docs/deployment.md": {
        *("--no-index", "--build-arg", "--check", "--ignore-missing", "--repo", "--upgrade"),
        *("--certificate-oidc-issuer", "--certificate-identity"),
    },
    "docs/monitoring.md": {"--read_only", "--basic-auth", "--address", "--auth"},
    "docs/operating.md": {"--force", "--upgrade"},
    "docs/performance.md": {"--quick", "--only", "--sample"},
}
FAMILIES = [*text_string_to_metric_families(write_metrics(make_reading()))]
EXPOSED = {each.name for family in FAMILIES for each in (family, *family.samples)}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_what_is_there_and_marks_what_is_typed(page: str) -> None:
    text, code = read_page(page), find_code(read_page(page))
    unmarked = [line for block in find_blocks(text) if not block.typed for line in block.lines]
    wrong = {
        "file": [each for each in NAMED.findall(text) if "NNNN" not in each and not (CHECKOUT / each).exists()],
        "command": [told for line in find_command_lines(text) if (told := explain_unknown(line))],
        "option": find_options(text) - OPTIONS - FOREIGN.get(page, set()),
        "target of make": {name for line in code for name in re.findall(r"\bmake ([a-z-]+)", line)} - TARGETS,
        "link": [link for link in find_links(text) if not leads_somewhere(page, link)],
        "metric": set(re.findall(r"\boathbulk_[a-z_]+", " ".join(code))) - EXPOSED,
        "not marked as typed": [line for line in unmarked if line.startswith(("oathbulk ", "$ "))],
    }
    assert {what: found for what, found in wrong.items() if found} == {}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_a_page_has_short_lines_and_short_cells(page: str) -> None:
    """What a command prints, and an address, is as long as it is."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    shown = {line for block in find_blocks(text) if block.kind not in ("", "sh") for line in block.lines}
    prose = [line for line in text.splitlines() if line not in shown and not line.startswith("|")]
    rows = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    assert [line for line in prose if len(line) > 100 and "://" not in line] == []
    assert [cell for row in rows for cell in row.split(" | ") if len(cell) > 160] == []


def leads_somewhere(page: str, link: str) -> bool:
    """Whether a link of a page leads to something that is there."""
    path, _, anchor = link.partition("#")
    target = (CHECKOUT / page).parent / path if path else CHECKOUT / page
    return target.exists() and (not anchor or anchor in find_anchors(target.read_text(encoding="utf-8")))


def test_what_is_not_understood_is_noticed() -> None:
    text = "`oathbulk stauts`, `oathbulk run FILE --importt`, `oathbulk db backup A B`, `oathbulk status july` [x](#no)"
    assert [bool(explain_unknown(line)) for line in find_command_lines(text)] == [True, True, True, False]
    links = ("docs/no-such-page.md", "docs/README.md#no-such-heading", "README.md#when-not-to-use-it")
    assert [leads_somewhere("README.md", link) for link in links] == [False, False, True]
    assert find_options("`--importt` and `--import=x`") - OPTIONS == {"--importt"}


def test_the_maps_lead_to_every_page_and_decision_and_have_every_command() -> None:
    links = {(CHECKOUT / "docs" / link.partition("#")[0]).resolve() for link in find_links(read_page("docs/README.md"))}
    top = {CHECKOUT / page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md|docs/\w+/README\.md", page)}
    assert top - links == {CHECKOUT / "docs" / "README.md"}
    for file, number in re.findall(r"^docs/decisions/((\d{4})-.*)$", "\n".join(PAGES), re.MULTILINE):
        title = read_page(f"docs/decisions/{file}").splitlines()[0].removeprefix(f"# {number} ")
        assert f"| [{number}]({file}) | {title} |" in read_page("docs/decisions/README.md")
    first = "\n".join(re.findall(r"^\| (.*?) \| ", read_page("docs/commands.md"), re.MULTILINE))
    assert [name for name in COMMANDS if not re.search(rf"[`\s]{name}\b", first)] == []
    ways_in = read_page("docs/architecture.md").split("## Where do I change …")[1].split("## ")[0]
    assert sum(line.startswith("| ") for line in ways_in.splitlines()) >= 21


def test_every_setting_is_named_once_and_those_of_the_simulator_with_their_defaults() -> None:
    page = read_page("docs/deployment.md#settings")
    rows = re.findall(r"^\| .* \| (.*) \|$", page, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)]
    assert sorted(named) == sorted({*OWN_SETTINGS, *ENVIRONMENT_SETTINGS})
    simulated = dict(re.findall(r"`([a-z_]+)=([^`]*)`", page))
    assert {name: json.loads(default) for name, default in simulated.items()} == {
        name: to_jsonable_python(field.get_default()) for name, field in SimulatorSettings.model_fields.items()
    }


def test_every_exit_code_is_explained_in_the_words_of_the_code() -> None:
    source = (CHECKOUT / "worker" / "cli" / "exit_codes.py").read_text()
    in_code = {code: words for words, code in re.findall(r"^# (.*)\n[A-Z_]+ = (\d+)$", source, re.MULTILINE)}
    assert {int(code) for code in in_code} == {value for name, value in vars(exit_codes).items() if name.isupper()}
    page = read_page("docs/commands.md#exit-codes")
    assert dict(re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE)) == in_code


def test_every_lock_unit_and_metric_is_explained_and_no_other() -> None:
    installing = read_page("docs/deployment.md#install")
    assert set(re.findall(r"(?<![/\w])(\w+\.txt)\b", installing)) == {
        path.name for path in (CHECKOUT / ".ci" / "locks").iterdir()
    }
    units = [name.removesuffix(".service").replace("@", "@1") for name in NAMES]
    assert [name for name in units if f"| `{name}`" not in installing] == []
    metrics = {f"{each.name}_total" if each.type == "counter" else each.name for each in FAMILIES}
    assert set(re.findall(r"^\| `(oathbulk_\w+)`", read_page("docs/monitoring.md"), re.MULTILINE)) == metrics


# docs/troubleshooting.md.


PAGE = read_page("docs/troubleshooting.md")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
# What preflight asks about devices, tokens and people stands in tables.
ASKED_BY_TABLE = {*DEVICE_TEXTS, *TOKEN_TEXTS, *PERSON_TEXTS}


def read_first_column(heading: str) -> list[str]:
    """What stands between backticks in the first column of a section's tables."""
    rows = re.findall(r"^\| (.*?) \| ", SECTIONS[heading], re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


@cache
def parse(folder: str) -> list[ast.AST]:
    paths = sorted((CHECKOUT / folder).rglob("*.py"))
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def find_calls(folder: str) -> Iterator[tuple[str, list[str], str]]:
    """The calls in the code of a folder whose first argument is a text: what is called, its arguments, the text."""
    for node in parse(folder):
        match node:
            case ast.Call(func=called, args=[ast.Constant(value=str(text)), *_] as given):
                yield ast.unparse(called), [ast.unparse(each) for each in given], text


@pytest.mark.parametrize(
    ("heading", "names"),
    [("A batch is paused", PauseReason), ("A token is a dead letter", Reason), ("A row was not loaded", RowFault)],
)
def test_every_reason_is_there(heading: str, names: type[str]) -> None:
    assert sorted(read_first_column(heading)) == sorted(names)  # type: ignore[type-var]


def test_pauses_that_end_by_themselves_are_told_apart() -> None:
    (first,) = re.findall(r"^`Paused.*go on by themselves", SECTIONS["A batch is paused"], re.MULTILINE)
    assert set(re.findall(r"\((\w+)\)", first)) == PASSING


def test_every_finding_of_preflight_is_there_and_what_accept_takes_is_what_is_asked() -> None:
    calls = [*find_calls("worker/preflight")]
    findings = {text for called, _, text in calls if called in ("Finding", "name_tokens", "_name_rows")}
    assert set(read_first_column("Before a load")) == findings | ASKED_BY_TABLE
    asked = re.findall(r"^\| (.*) \| \?(?: ·)? \|", SECTIONS["Before a load"], re.MULTILINE)
    assert {name for row in asked for name in re.findall(r"`(\w+)`", row)} == set(Question)
    assert {text for _, given, text in calls if given[1:2] == ["Level.ASK"]} | ASKED_BY_TABLE == set(Question)


def test_every_check_of_doctor_is_there() -> None:
    checks = (CHECKOUT / "worker/cli/doctor.py").read_text(encoding="utf-8")
    table = read_page("docs/commands.md#doctor")
    assert re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE) == re.findall(r'yield "([a-z ]+)", ', checks)


@pytest.mark.parametrize(("heading", "column"), [("Nothing moves", 1), ("A command ends at once", 0)])
def test_every_message_is_one_that_is_printed(heading: str, column: int) -> None:
    rows = re.findall(r"^\| (.*) \|$", SECTIONS[heading], re.MULTILINE)[2:]
    messages = [span for row in rows for span in re.findall(r"`([^`]+)`", row.split(" | ")[column])]
    assert len(messages) >= len(rows)
    pieces = {piece.strip() for message in messages for piece in message.split("…")} - {"", ")."}
    # Every text in the code but docstrings, with a break where a value is put in.
    nodes = parse("worker") + parse("models")
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    printed = "\n".join(text.replace("`", "") for text in texts if isinstance(text, str))
    assert [piece for piece in sorted(pieces) if piece not in printed] == []


def test_every_cause_of_a_stall_is_there_and_every_event_of_a_log_is_one_that_is_logged() -> None:
    assert set(Cause) <= set(read_first_column("Nothing moves"))
    logged = {text for called, _, text in find_calls("worker") if re.search(r"\.(warning|error|exception)$", called)}
    assert set(read_first_column("In a log")) <= logged
