"""Breaks the product in many places, one at a time, and tells which tests notice. `make mutation` takes an hour or two
on two cores.

    .venv/mutation/bin/python tests/mutation/table.py [--count N] [--seed N] [--trees N] [--only TEXT] [--json FILE]

The last commit is cloned, once for each of the `--trees` that work side by side, with an environment of its own. The
tests of `make test` run once, to learn which of them reach which lines, and how long they take. Then, for each mutant,
those that reach its line run, the quick layers first, until one fails; a minute at the most. What none of them notices
meets the hunt for a minute; its own mutants are in `make faults`."""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import coverage
from mutants import Mutant, draw_mutants

REPOSITORY = Path(__file__).parents[2]
# The quick ones first.
LAYERS = ("unit", "golden", "security", "integration", "acceptance")
# Seconds for the tests of one mutant, and for the hunt.
LIMIT = 60
# Seconds beyond those that its tests take as a rule, after which a mutant is taken to have stopped them.
STOPPED_AFTER = 30
# What coverage reads; a process that a test starts is measured as part of this test.
MEASURED = """
[run]
source = worker, models
parallel = true
sigterm = true
concurrency = thread
data_file = {data}
context = ${{PYTEST_CURRENT_TEST-}}
"""
HUNT = ("-m", "hunt", "--minutes", "1", "--seed", "1")


@dataclass(frozen=True)
class Verdict:
    """What noticed a mutant: a layer of tests, or the hunt; None: nothing did. `reached`: the tests that reach its
    line."""

    mutant: str
    caught_by: str | None
    test: str
    seconds: float
    reached: int


class Tree:
    """A clone with an environment of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / ".venv" / "bin" / "python"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(directory)], check=True)
        subprocess.run(["make", "--quiet", ".venv/.dev"], cwd=directory, check=True)
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", "coverage"], check=True)

    def run(self, *arguments: str, seconds: float | None = None, **variables: str) -> tuple[int | None, str]:
        """Run Python: its exit code, None where it took longer, and what it printed. What it started ends with it."""
        environment = os.environ | {"PYTHONPATH": str(self.directory / "tests")} | variables
        process = subprocess.Popen(
            [self.python, *arguments],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None, process.communicate()[0]
        return process.returncode, printed

    def test(self, tests: Sequence[str], seconds: float) -> tuple[int | None, str]:
        """Run these tests until one fails; also the name of that."""
        chosen = self.directory / ".venv" / "chosen"
        chosen.write_text("\n".join(tests))
        code, printed = self.run("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"@{chosen}", seconds=seconds)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)
        return code, failed[1] if failed else printed.strip().splitlines()[-1] if printed.strip() else ""


class Reach:
    """Which tests reach which lines, and how long each takes."""

    def __init__(self, tree: Tree, processes: int) -> None:
        self._root = tree.directory
        data, seconds = tree.directory / ".venv" / "coverage", tree.directory / ".venv" / "seconds"
        settings = tree.directory / ".venv" / "coveragerc"
        settings.write_text(MEASURED.format(data=data))
        _, printed = tree.run(
            *("-m", "pytest", "-q", "-n", str(processes), "--dist", "worksteal", "-m", "not faults"),
            *("-p", "mutation.contexts", *(f"tests/{layer}" for layer in LAYERS)),
            COVERAGE_PROCESS_START=str(settings),
            TEST_SECONDS=str(seconds),
        )
        print(printed.strip().splitlines()[-1], flush=True)
        tree.run("-m", "coverage", "combine", "--quiet", f"--rcfile={settings}")
        self._seconds = json.loads(seconds.read_text())
        self._data = coverage.CoverageData(str(data))
        self._data.read()

    def find_tests(self, mutant: Mutant) -> list[str]:
        """Find the tests that reach the line of a mutant, or its file where that line runs as the file is imported; the
        quick layers and tests first."""
        by_line = self._data.contexts_by_lineno(str(self._root / mutant.path))
        tests = self._read_tests(by_line.get(mutant.line, []))
        tests = tests or self._read_tests(context for contexts in by_line.values() for context in contexts)
        return sorted(tests, key=lambda test: (LAYERS.index(test.split("/")[1]), self._seconds[test]))

    def _read_tests(self, contexts: Iterable[str]) -> set[str]:
        return {context.split(" (")[0] for context in contexts} & self._seconds.keys()

    def count_seconds(self, tests: Sequence[str]) -> float:
        return sum(self._seconds[test] for test in tests)


def judge(tree: Tree, reach: Reach, mutant: Mutant) -> Verdict:
    """Break this place of the tree, run what reaches it, and mend it."""
    path = tree.directory / mutant.path
    source, began = path.read_text(), time.monotonic()
    tests = reach.find_tests(mutant)
    write(path, mutant.apply(source))
    try:
        code, said = tree.test(tests, LIMIT) if tests else (0, "")
        taken = time.monotonic() - began
        if code:
            layer = said.split("/")[1] if said.startswith("tests/") else "import"
            return Verdict(str(mutant), layer, said, taken, len(tests))
        if code is None and reach.count_seconds(tests) < LIMIT - STOPPED_AFTER:
            return Verdict(str(mutant), "stopped", "", taken, len(tests))
        code, _ = tree.run(*HUNT, seconds=2 * LIMIT)
        return Verdict(str(mutant), "hunt" if code else None, "", time.monotonic() - began, len(tests))
    finally:
        write(path, source)


def write(path: Path, source: str) -> None:
    """Write a file, which no compiled one fits from before: those are told apart by size and whole seconds."""
    later = path.stat().st_mtime + 2
    path.write_text(source)
    os.utime(path, (later, later))


def judge_all(trees: Sequence[Tree], reach: Reach, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    """Judge each mutant in the tree that is free next."""
    free = SimpleQueue[Tree]()
    for tree in trees:
        free.put(tree)

    def judge_in_free_tree(mutant: Mutant) -> Verdict:
        tree = free.get()
        try:
            return judge(tree, reach, mutant)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as threads:
        yield from threads.map(judge_in_free_tree, mutants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=92)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trees", type=int, default=2)
    parser.add_argument("--only", default="", help="mutants whose place contains this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    verdicts = list[Verdict]()
    with tempfile.TemporaryDirectory(prefix="oathbulk-mutation-") as directory:
        trees = [Tree(Path(directory) / f"tree{number}") for number in range(arguments.trees)]
        reach = Reach(trees[0], 2 * arguments.trees)
        if trees[0].run(*HUNT, seconds=2 * LIMIT)[0]:
            raise SystemExit("The hunt finds a fault in the product as it is: it would tell nothing of the mutants.")
        mutants = draw_mutants(trees[0].directory, arguments.count, arguments.seed)
        chosen = [mutant for mutant in mutants if arguments.only in str(mutant)]
        print("| mutant | caught by | first test | s | tests that reach it |\n|---|---|---|---|---|")
        for verdict in judge_all(trees, reach, chosen):
            verdicts.append(verdict)
            cells = (verdict.caught_by or "**nothing**", verdict.test, f"{verdict.seconds:.0f}", str(verdict.reached))
            print(f"| {verdict.mutant} | {' | '.join(cells)} |", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    caught = Counter(verdict.caught_by for verdict in verdicts)
    print(f"\n{len(verdicts) - caught[None]} of {len(verdicts)} caught: {dict(caught)}")


if __name__ == "__main__":
    main()
