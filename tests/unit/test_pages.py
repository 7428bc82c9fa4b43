"""The pages name what is there: commands and options, targets of make, links and their anchors, metrics, files.

That their settings exist, `unit/config/test_known_settings.py` sees to; that what they show is what is printed,
`acceptance/test_pages.py` and `test_situations.py`."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.data.facts import make_reading, write_metrics
from support.pages.command_lines import OPTIONS, explain_unknown, find_command_lines, find_options
from support.pages.reading import CHECKOUT, PAGES, find_anchors, find_blocks, find_code, find_links, read_page

from worker.cli.command_list import COMMANDS

# A file or directory of the checkout, as a page writes it.
NAMED = re.compile(r"(?<![\w./-])(?:worker|models|migrations|tests|docs|\.ci|\.github)/[\w./-]*[\w/]")
# What the reader is to choose, or a version of before.
EXAMPLES = ("NNNN",)
TARGETS = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
# Options in the text of pages that belong to other programs than ours.
FOREIGN = {
    "docs/decisions/0002-threads-that-write-together.md": {"--all-tasks"},
    "docs/deployment.md": {"--no-index", "--build-arg"},
    "docs/monitoring.md": {"--read_only", "--basic-auth", "--address", "--auth"},
    "docs/operating.md": {"--force", "--upgrade"},
    "docs/performance.md": {"--quick", "--only", "--sample"},
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_that_are_there(page: str) -> None:
    named = set(NAMED.findall(read_page(page)))
    missing = sorted(
        path for path in named if not (CHECKOUT / path).exists() and not any(example in path for example in EXAMPLES)
    )
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_types_commands_that_are_understood(page: str) -> None:
    lines = find_command_lines(read_page(page))
    assert {line: told for line in lines if (told := explain_unknown(line))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_types_is_marked_so_that_it_is_typed(page: str) -> None:
    unmarked = [line for block in find_blocks(read_page(page)) if not block.typed for line in block.lines]
    assert [line for line in unmarked if line.startswith(("oathbulk ", "$ "))] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_options_that_some_command_has(page: str) -> None:
    assert find_options(read_page(page)) - OPTIONS - FOREIGN.get(page, set()) == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_targets_of_make_that_are_there(page: str) -> None:
    named = {target for code in find_code(read_page(page)) for target in re.findall(r"\bmake ([a-z-]+)", code)}
    assert named - TARGETS == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_leads_to_pages_and_headings_that_are_there(page: str) -> None:
    assert [link for link in find_links(read_page(page)) if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_metrics_that_are_exposed(page: str) -> None:
    families = text_string_to_metric_families(write_metrics(make_reading()))
    exposed = {sample.name for family in families for sample in family.samples} | {
        family.name for family in text_string_to_metric_families(write_metrics(make_reading()))
    }
    assert set(re.findall(r"\boathbulk_[a-z_]+", " ".join(find_code(read_page(page))))) - exposed == set()


def test_what_is_not_understood_is_noticed() -> None:
    text = "`oathbulk stauts`, `oathbulk run FILE --importt`, `oathbulk db backup A B`, `oathbulk status july` [x](#no)"
    told = [explain_unknown(line) for line in find_command_lines(text)]
    assert [bool(each) for each in told] == [True, True, True, False]
    assert not leads_somewhere("README.md", "docs/no-such-page.md")
    assert not leads_somewhere("README.md", "docs/README.md#no-such-heading")
    assert leads_somewhere("docs/desk.md", "../README.md#when-not-to-use-it")
    assert find_options("`--importt` and `--import=x`") - OPTIONS == {"--importt"}


def test_the_map_leads_to_every_page() -> None:
    links = {(CHECKOUT / "docs" / link.partition("#")[0]).resolve() for link in find_links(read_page("docs/README.md"))}
    top = {CHECKOUT / page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md|docs/\w+/README\.md", page)}
    assert top - links == {CHECKOUT / "docs" / "README.md"}


def test_the_index_of_decisions_has_each_with_its_title() -> None:
    index = read_page("docs/decisions/README.md")
    for page in PAGES:
        if found := re.fullmatch(r"docs/decisions/((\d{4})-.*)", page):
            title = read_page(page).splitlines()[0].removeprefix(f"# {found[2]} ")
            assert f"| [{found[2]}]({found[1]}) | {title} |" in index


def test_the_page_of_commands_has_every_command() -> None:
    first = "\n".join(re.findall(r"^\| (.*?) \| ", read_page("docs/commands.md"), re.MULTILINE))
    assert [name for name in COMMANDS if not re.search(rf"[`\s]{name}\b", first)] == []


def test_the_map_of_changes_has_twenty_ways_in() -> None:
    table = read_page("docs/architecture.md").split("## Where do I change …")[1].split("## ")[0]
    assert sum(line.startswith("| ") for line in table.splitlines()) >= 21


def leads_somewhere(page: str, link: str) -> bool:
    """Whether a link of a page leads to something that is there."""
    path, _, anchor = link.partition("#")
    target = (CHECKOUT / page).parent / path if path else CHECKOUT / page
    return target.exists() and (not anchor or anchor in find_anchors(target.read_text(encoding="utf-8")))
