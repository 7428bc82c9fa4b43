"""Plots of what the benchmarks wrote with --json, as SVG.

python tests/benchmarks/plots.py side_by_side.json limits.json [--into docs/performance]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from contenders import CONTENDERS
from limits import OTHERS
from matplotlib import pyplot as plt

# Text as text, and the same file for the same figures.
mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "oathbulk", "font.size": 9}
TITLES = {contender.name: contender.title for contender in (*CONTENDERS, *OTHERS.values())} | {"ours": "oathbulk"}


def plot_cpu(told: dict[str, Any], file: Path) -> None:
    """CPU a record as bars, and the floor, part by part, as the first of them."""
    figure, axes = plt.subplots(figsize=(7, 3))
    left = 0.0
    for part, colour in (("task", "#999999"), ("http", "#b5b5b5"), ("sql", "#d0d0d0")):
        width = statistics.median(each["parts"][part] for each in told["slices"])
        axes.barh("the floor", width, left=left, color=colour)
        axes.text(left + width / 2, 0, part, ha="center", va="center")
        left += width
    for name, rounds in told["rounds"].items():
        own = statistics.median(figures["cpu"] for figures in rounds)
        axes.barh(TITLES[name], own, color="#1f77b4" if name == "ours" else "#c7d7e8")
    axes.axvline(left, color="#999999", linewidth=1, linestyle=":")
    axes.invert_yaxis()
    axes.set_xlabel("CPU, ms a record")
    save(figure, file)


def plot_limit(results: list[dict[str, Any]], file: Path) -> None:
    """One panel a contender: requests let through and refused, second by second, below the limit."""
    figure, panels = plt.subplots(len(results), 1, figsize=(7, 1.7 * len(results)), sharex=True, squeeze=False)
    highest = 1.6 * max(permitted for result in results for permitted, _, _ in result["seconds"])
    for axes, result in zip(panels[:, 0], results, strict=True):
        permitted, let_through, limited = zip(*result["seconds"], strict=True)
        seconds = range(len(permitted))
        axes.stackplot(seconds, let_through, limited, colors=["#1f77b4", "#f2b8b5"], step="post")
        axes.step(seconds, permitted, where="post", color="black", linewidth=1)
        workers = f", {result['workers']} workers" if result["workers"] > 1 else ""
        axes.set_title(f"{TITLES[result['name']]}{workers}", loc="left", fontsize=9)
        axes.set_ylim(0, highest)
        axes.set_ylabel("requests/s")
    panels[-1, 0].set_xlabel("seconds; blue: answered, red: refused with 429, line: the limit")
    save(figure, file)


def save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    # matplotlib leaves spaces at the ends of lines.
    file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines()))
    print(f"{file}: {file.stat().st_size / 1024:.0f} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[2] / "docs" / "performance")
    arguments = parser.parse_args()
    for file in arguments.files:
        told = json.loads(file.read_text())
        if isinstance(told, dict):
            plot_cpu(told, arguments.into / "cpu.svg")
            continue
        for shape, limit in dict.fromkeys((result["shape"], result["limit"]) for result in told):
            shown = [result for result in told if (result["shape"], result["limit"]) == (shape, limit)]
            plot_limit(shown, arguments.into / f"limit-{shape}-{limit}.svg")


if __name__ == "__main__":
    main()
