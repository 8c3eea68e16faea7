"""A study's report: the tables, and one page that holds everything a reader needs to judge and to repeat it.

The page is a single file without scripts that asks nothing of a network. Its words are made from the numbers alone.
The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrsynth.files import atomic_path
from mrsynth.study.statistics import KEYS, grid_name, summarize
from mrsynth.study.steps import plain
from mrsynth.study.tables import REGION_NAMES, ordered, sentences, write_results

INK, GRAY, UP, DOWN = "#222222", "#8a8a8a", "#2166ac", "#c2541a"
SHOWN = (
    *("title", "config", "versions", "other_versions", "hashes", "commands", "steps", "failed", "stopped"),
    *("max_iterations", "subjects", "grids", "published"),
)
"""Parts of a study that the page has a place for; whatever else there is, it shows as JSON."""

PANELS = 5
"""Comparisons side by side in a figure of paired lines."""


def write_report(
    folder: str | os.PathLike,
    records: Iterable[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    reference: str,
    baseline: str | None,
    study: Mapping[str, Any],
    pictures: Mapping[tuple, str | os.PathLike],
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``results.csv``, ``results.json``, ``table.md``, ``table.tex`` and ``study.html`` to ``folder``.

    Args:
        folder: made if it is not there.
        records, rows, reference, baseline, seed: of :func:`mrsynth.study.statistics.summarize`.
        study: what is needed to read and to repeat it: :data:`SHOWN`, and whatever else is there.
        pictures: PNG files by (row, segmenter, fold, seed, subject).

    Returns:
        The summary of :func:`mrsynth.study.statistics.summarize`.
    """
    folder, records = Path(folder), list(records)
    summary = summarize(records, rows, reference, baseline, seed)
    study = {**dict.fromkeys(SHOWN), **plain(study)}
    tables = write_results(folder, records, rows, summary, study)
    steps = [dict.fromkeys(("step", "status", "seconds", "log")) | step for step in study["steps"] or []]
    records = ordered(records, rows)
    sections = []
    for table in summary["tables"]:
        here = [r for r in records if (r["segmenter"], grid_name(r["grid"])) == (table["segmenter"], table["grid"])]
        scores, title = subject_scores(table, here), f"segmenter {table['segmenter']}, grid {table['grid']}"
        sections.append(
            {
                "title": title.removeprefix("segmenter "),
                "reading": reading(table, baseline),
                "sentences": [said for row in table["rows"] for said in sentences("sentence", row, table)],
                "tables": [made for made in tables if made.of == title],
                "boxes": box_plots(table, scores),
                "lines": paired_lines(table, scores),
                "cases": cases(table, here, pictures),
            }
        )
    content = {"sections": sections, "rows": rows, "reference": reference, "baseline": baseline}
    with atomic_path(folder / "study.html") as temporary:
        temporary.write_text(PAGE.render(content, study=study, steps=steps, shown=SHOWN), encoding="utf-8")
    return summary


def reading(table: Mapping[str, Any], baseline: str | None) -> str:
    """One paragraph on one segmenter and grid, from its numbers alone."""
    return " ".join(sentences("reading", table, baseline, best_synthetic(table)))


def best_synthetic(table: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row with synthetic subjects that does best against its reference, mean over regions on the subjects of both.

    The baseline is taken only if there is no other, a row without reference by its mean Dice only if all lack one.
    """
    rows = [row for row in table["rows"] if row["synthetic"] and not row["is_reference"]]
    for measure in ("difference", "dice"):
        means = {row["name"]: [cell[measure]["mean"] for cell in row["regions"].values()] for row in rows}
        scored = [row for row in rows if None not in means[row["name"]]]
        scored = [row for row in scored if not row["is_baseline"]] or scored
        if scored:
            return max(scored, key=lambda row: sum(means[row["name"]]))
    return None


def subject_scores(table: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], pd.Series]:
    """Dice by subject, seeds averaged, for each row and region; scores that do not exist left out."""
    frame = pd.DataFrame(records, columns=["row", "region", "subject", "dice"]).astype({"dice": float})
    means = frame.groupby(["row", "region", "subject"])["dice"].mean().dropna()
    found = {key: series.droplevel(["row", "region"]) for key, series in means.groupby(level=["row", "region"])}
    nothing = pd.Series(dtype=float)
    return {(row["name"], r): found.get((row["name"], r), nothing) for row in table["rows"] for r in table["regions"]}


def box_plots(table: Mapping[str, Any], scores: Mapping[tuple[str, str], pd.Series]) -> str:
    """Dice of every row as a box with its subjects as points, a panel a region; a data URI."""
    rows, regions = table["rows"], table["regions"]
    figure = Figure(figsize=(10, 0.9 + 0.46 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(regions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, region in zip(panels, regions, strict=True):
        for place, row in enumerate(rows):
            values = scores[row["name"], region].to_numpy()
            if not len(values):
                axes.text(0.5, place, "no scores", ha="center", va="center", fontsize=8, color=GRAY)
                continue
            color = INK if row["is_reference"] else UP if row["synthetic"] else GRAY
            if row["is_reference"]:
                axes.axvline(float(np.median(values)), color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
            thin = {f"{part}props": {"color": color, "linewidth": 0.9} for part in ("box", "whisker", "cap")}
            style: dict[str, Any] = {**thin, "medianprops": {"color": color, "linewidth": 1.6}}
            axes.boxplot(values, positions=[place], orientation="horizontal", widths=0.6, showfliers=False, **style)
            # spread evenly in an order that has nothing to do with the score
            offset = 0.36 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
            axes.plot(values, place + offset, "o", markersize=3.2, color=color, alpha=0.45, markeredgewidth=0)
        axes.set_title(REGION_NAMES.get(region, region), fontsize=10, color=INK)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("Dice", fontsize=9)
        remove_frame(axes, "x")
    return svg(figure)


def paired_lines(table: Mapping[str, Any], scores: Mapping[tuple[str, str], pd.Series]) -> list[str]:
    """Every subject as a line from the reference row to the row compared with it; data URIs of figures.

    A line a region, a panel a row; blue where the subject gains, orange where it loses, the mean thick.
    """
    compared = [row for row in table["rows"] if row["reference"] is not None and row["reference_grid"] == table["grid"]]
    regions, figures = table["regions"], []
    for start in range(0, len(compared), PANELS):
        shown = compared[start : start + PANELS]
        figure = Figure(figsize=(10, 0.5 + 1.75 * len(regions)), layout="constrained")
        panels = figure.subplots(len(regions), PANELS, sharey="row", squeeze=False)
        for axes in panels[:, len(shown) :].flat:
            axes.set_visible(False)
        for (line, column), axes in np.ndenumerate(panels[:, : len(shown)]):
            row, region = shown[column], regions[line]
            both = [scores[name, region] for name in (row["reference"], row["name"])]
            pairs = pd.concat(both, axis=1, join="inner").to_numpy()
            for before, after in pairs:
                axes.plot((0, 1), (before, after), color=UP if after >= before else DOWN, linewidth=0.8, alpha=0.7)
            if len(pairs):
                axes.plot((0, 1), pairs.mean(axis=0), "o-", color=INK, linewidth=2, markersize=4)
            else:
                axes.text(0.5, 0.5, "no pairs", ha="center", transform=axes.transAxes, fontsize=8, color=GRAY)
            if line == 0:
                axes.set_title(wrapped(row["name"], 18), fontsize=8.5, color=INK)
            ends = [wrapped(row["reference"], 11), "this row"] if line == len(regions) - 1 else ["", ""]
            axes.set_xticks((0, 1), ends)
            axes.set_xlim(-0.25, 1.25)
            remove_frame(axes, "y")
            axes.tick_params(labelsize=7.5)
            if column == 0:
                axes.set_ylabel(f"{region}, Dice", fontsize=9)
        figures.append(svg(figure))
    return figures


def cases(
    table: Mapping[str, Any], records: Sequence[Mapping[str, Any]], pictures: Mapping[tuple, str | os.PathLike]
) -> list[dict[str, Any]]:
    """Worst and best test subject, by mean Dice over the regions, of the reference and of the best synthetic row.

    The picture is of the subject's first training that has one, and so is the Dice below it; else that is the mean.
    """
    there = {tuple(map(str, key)): Path(path) for key, path in pictures.items() if Path(path).is_file()}
    scores = pd.DataFrame([r for r in records if r["dice"] is not None], columns=[*KEYS, "dice"])
    rows, best = [row for row in table["rows"] if row["is_reference"]], best_synthetic(table)
    found = []
    for row in [*rows, *([] if best is None else [best])]:
        own = scores[scores["row"] == row["name"]].astype({"dice": float})
        # only subjects whose regions all have a Dice can be ranked by their mean
        means = own.pivot_table(index="subject", columns="region", values="dice").dropna().mean(axis=1)
        ends = {"worst": means.idxmin(), "best": means.idxmax()} if len(means) else {}
        for kind, subject in list(ends.items())[: len(means)]:
            runs, uri, fold, seed = own[own["subject"] == subject], None, None, None
            for run in dict.fromkeys(zip(runs["fold"], runs["seed"], strict=True)):
                path = there.get((row["name"], table["segmenter"], *map(str, run), str(subject)))
                if path is not None:
                    uri, (fold, seed) = data_uri("png", path.read_bytes()), run
                    runs = runs[(runs["fold"] == fold) & (runs["seed"] == seed)]
                    break
            dice = runs.groupby("region")["dice"].mean()
            said = ", ".join(f"{region} {dice[region]:.3f}" for region in table["regions"] if region in dice)
            found.append({"row": row["name"], "kind": kind, "subject": subject, "dice": said})
            found[-1] |= {"uri": uri, "fold": fold, "seed": seed}
    return found


def duration(seconds: float | None) -> str:
    """Seconds in words of a clock: "3 h 05 min", "4 min 10 s", "0.8 s"."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def wrapped(text: str, width: int) -> str:
    """``text`` on several lines of about ``width`` letters; no word is broken."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def remove_frame(axes: Axes, grid: Literal["x", "y"]) -> None:
    """No frame but the axes themselves, small gray figures, the lines of one grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.tick_params(labelsize=8.5, color=GRAY, labelcolor=INK, length=2.5)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.6)


def svg(figure: Figure) -> str:
    """``figure`` as a data URI of an SVG; the same figure gives the same text."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mrsynth", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return data_uri("svg+xml", stream.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """An image as text that a page can hold."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


# everything put into the page is escaped
ENVIRONMENT = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters |= {"duration": duration, "grid_name": grid_name}
ENVIRONMENT.filters["json"] = lambda value, indent=None: json.dumps(plain(value), indent=indent, ensure_ascii=False)
PAGE = ENVIRONMENT.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
