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
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrsynth.files import atomic_path
from mrsynth.manifest.splits import natural
from mrsynth.study.statistics import LEVEL, grid_name, summarize, verdict
from mrsynth.study.steps import plain
from mrsynth.study.tables import (
    REGION_NAMES,
    ordered,
    p_text,
    signed,
    write_results,
)

INK, GRAY, UP, DOWN = "#222222", "#8a8a8a", "#2166ac", "#c2541a"
VERDICTS = {
    "gain": "a gain",
    "loss": "a loss",
    "none": "no difference shown",
    "unclear": "unclear, as the rank test and the interval of the mean disagree",
}
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
        records: the scores; see :mod:`mrsynth.study.statistics`.
        rows: the row definitions in table order.
        reference: name of the real-only row.
        baseline: name of the row to beat, or None.
        study: what is needed to read and to repeat it; shown are ``config``, ``versions``, ``other_versions``,
            ``hashes``, ``commands``, ``steps``, ``failed``, ``stopped``, ``max_iterations``, ``subjects``, ``grids``
            (what each is, by name), ``published`` (``name``, ``segmenters``), and whatever else is there.
        pictures: PNG files by (row, segmenter, fold, seed, subject).
        seed: of the bootstrap.

    Returns:
        The summary of :func:`mrsynth.study.statistics.summarize`.

    Raises:
        UserError: the records do not fit the rows, or the folder cannot be written.
    """
    folder, records = Path(folder), list(records)
    summary = summarize(records, rows, reference, baseline, seed)
    study = dict.fromkeys(SHOWN) | plain(study)
    steps = [dict.fromkeys(("step", "status", "seconds", "log")) | step for step in study["steps"] or []]
    tables = iter(write_results(folder, records, rows, summary, study))
    per_table = 2 + any(measure != "dice" for measure in summary["measures"])
    records = ordered(records, rows)
    sections = []
    for table in summary["tables"]:
        here = [r for r in records if (r["segmenter"], grid_name(r["grid"])) == (table["segmenter"], table["grid"])]
        scores = subject_scores(here)
        sections.append(
            {
                "title": f"{table['segmenter']}, grid {table['grid']}",
                "reading": reading(table, summary["baseline"]),
                "sentences": [said for row in table["rows"] if (said := sentence(row, table))],
                "tables": [next(tables) for _ in range(per_table)],
                "boxes": box_plots(table, scores),
                "lines": paired_lines(table, scores),
                "cases": cases(table, here, pictures),
            }
        )
    page = template().render(
        title=str(study["title"] or "Do synthetic subjects help a segmenter?"),
        sections=sections,
        rows=[described(row) for row in rows],
        reference=reference,
        baseline=baseline,
        failed=[failure(run) for run in study["failed"] or []],
        study=study,
        steps=steps,
        seconds=sum(step["seconds"] or 0 for step in steps),
        config=as_json(study["config"]),
        rest={key: as_json(value) for key, value in study.items() if key not in SHOWN},
    )
    with atomic_path(folder / "study.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return summary


def template() -> jinja2.Template:
    """The page's template; everything put into it is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))


def reading(table: Mapping[str, Any], baseline: str | None) -> str:
    """One paragraph on one segmenter and grid, from its numbers alone.

    How many comparisons show something; the best row with synthetic subjects, whatever it shows, and that row against
    the baseline; every other gain or loss that is shown; and whether so few subjects can show any.
    """
    n, seeds = len(table["subjects"]), len(table["seeds"])
    said = [f"{n} test subject{'s' * (n != 1)}, {seeds} seed{'s' * (seeds != 1)}."]
    shown = [
        (row, region, row["regions"][region]["difference"]) for row in table["rows"] for region in table["regions"]
    ]
    found = [verdict(difference) for *_, difference in shown]
    count = {kind: found.count(kind) for kind in VERDICTS}
    total = sum(count.values())
    if not total:
        said.append("No row could be tested against its reference.")
    else:
        one = total == 1
        said.append(
            f"Of {'the one comparison' if one else f'{total} comparisons'} with the reference, {count['gain']} "
            f"show{'s' * (count['gain'] == 1)} a gain, {count['loss']} a loss and {count['none']} no difference"
            + (f"; {count['unclear']} cannot be read." if count["unclear"] else ".")
        )
    best = best_synthetic(table)
    if best is not None:
        said.append(f"Of the rows with synthetic subjects, {best['name']} does best.")
        said.append(sentence(best, table))
        if baseline is not None and not best["is_baseline"]:
            said.append(sentence(best, table, baseline))
    for kind, word in (("gain", "gains"), ("loss", "losses")):
        rows = {
            row["name"]: [
                f"{region} {signed(difference['mean'])}"
                for other, region, difference in shown
                if other is row and verdict(difference) == kind
            ]
            for row in table["rows"]
            if row is not best
        }
        if told := [f"{name} ({', '.join(parts)})" for name, parts in rows.items() if parts]:
            said.append(f"Other {word} shown: {'; '.join(told)}.")
    comparisons = table["comparisons"]["difference"]
    if comparisons and table["smallest_p"] is not None:
        least = min(1.0, table["smallest_p"] * comparisons)
        if least >= LEVEL:
            said.append(
                f"With {n} subjects and {comparisons} comparisons no corrected p can be below {least:.2g}, so the "
                "tests can show nothing; the intervals say how large a difference may be."
            )
    return " ".join(filter(None, said))


def sentence(row: Mapping[str, Any], table: Mapping[str, Any], baseline: str | None = None) -> str:
    """A row's differences from its reference (or from the baseline) in words; empty where it is compared with none."""
    kind, other = ("difference", row["reference"]) if baseline is None else ("baseline_difference", baseline)
    if other is None:
        return ""
    far = baseline is None and row["reference_grid"] != row["grid"]
    against = f"{other} (grid {row['reference_grid']})" if far else other
    found = {region: row["regions"][region][kind] for region in table["regions"]}
    if all(difference["mean"] is None for difference in found.values()):
        return f"{row['name']} is not compared with {against}: {'; '.join({d['reason'] for d in found.values()})}."
    few = {f"{d['n']} of {d['of']}" for d in found.values() if d["n"] < d["of"]}
    on = f", on {' or '.join(sorted(few))} subjects," if few else ""
    parts = [f"{region} by {in_words(difference)}" for region, difference in found.items()]
    return f"{row['name']} differs from {against}{on} in {'; in '.join(parts)}."


def in_words(difference: Mapping[str, Any]) -> str:
    """A difference, its interval, its p and what it shows."""
    if difference["mean"] is None:
        return f"not compared, {difference['reason']}"
    value = f"{signed(difference['mean'])} Dice points"
    if difference["interval"] is None:
        return f"{value} (no interval: {difference['reason']})"
    low, high = difference["interval"]
    p = p_text(difference["p_holm"])
    return (
        f"{value} (95% interval {signed(low)} to {signed(high)}, p_Holm {p}): "
        f"{VERDICTS.get(verdict(difference), 'not tested')}"
    )


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


def subject_scores(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Dice by (row, region, subject), seeds averaged; scores that do not exist left out."""
    frame = pd.DataFrame(
        {key: [record[key] for record in records] for key in ("row", "region", "subject")}
        | {"dice": [np.nan if record["dice"] is None else float(record["dice"]) for record in records]}
    )
    return frame.dropna().groupby(["row", "region", "subject"], as_index=False)["dice"].mean()


def dice_of(scores: pd.DataFrame, row: str, region: str) -> pd.Series:
    """Dice of one row in one region, by subject."""
    return scores[(scores["row"] == row) & (scores["region"] == region)].set_index("subject")["dice"].sort_index()


def box_plots(table: Mapping[str, Any], scores: pd.DataFrame) -> str:
    """Dice of every row as a box with its subjects as points, a panel a region; a data URI."""
    rows, regions = table["rows"], table["regions"]
    figure = Figure(figsize=(10, 0.9 + 0.46 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(regions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, region in zip(panels, regions, strict=True):
        for place, row in enumerate(rows):
            values = dice_of(scores, row["name"], region).to_numpy()
            if not len(values):
                axes.text(0.5, place, "no scores", ha="center", va="center", fontsize=8, color=GRAY)
                continue
            color = INK if row["is_reference"] else UP if row["synthetic"] else GRAY
            axes.boxplot(
                values,
                positions=[place],
                orientation="horizontal",
                widths=0.6,
                showfliers=False,
                medianprops={"color": color, "linewidth": 1.6},
                boxprops={"color": color, "linewidth": 0.9},
                whiskerprops={"color": color, "linewidth": 0.9},
                capprops={"color": color, "linewidth": 0.9},
            )
            # spread evenly in an order that has nothing to do with the score
            offset = 0.36 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
            axes.plot(values, place + offset, "o", markersize=3.2, color=color, alpha=0.45, markeredgewidth=0)
        own = [dice_of(scores, row["name"], region) for row in rows if row["is_reference"]]
        if own and len(own[0]):
            axes.axvline(float(own[0].median()), color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        axes.set_title(REGION_NAMES.get(region, region), fontsize=10, color=INK)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("Dice", fontsize=9)
        plainly(axes)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    return svg(figure)


def paired_lines(table: Mapping[str, Any], scores: pd.DataFrame) -> list[str]:
    """Every subject as a line from the reference row to the row compared with it; data URIs of figures.

    A line a region, a panel a row; blue where the subject gains, orange where it loses, the mean thick.
    """
    compared = [row for row in table["rows"] if row["reference"] is not None and row["reference_grid"] == table["grid"]]
    regions, figures = table["regions"], []
    for start in range(0, len(compared), PANELS):
        shown = compared[start : start + PANELS]
        figure = Figure(figsize=(10, 0.5 + 1.75 * len(regions)), layout="constrained")
        panels = figure.subplots(len(regions), PANELS, sharey="row", squeeze=False)
        for line, region in zip(panels, regions, strict=True):
            for axes in line[len(shown) :]:
                axes.set_visible(False)
            for axes, row in zip(line, shown, strict=False):
                pairs = pd.concat(
                    [dice_of(scores, name, region) for name in (row["reference"], row["name"])], axis=1, join="inner"
                ).to_numpy()
                for before, after in pairs:
                    axes.plot((0, 1), (before, after), color=UP if after >= before else DOWN, linewidth=0.8, alpha=0.7)
                if len(pairs):
                    axes.plot((0, 1), pairs.mean(axis=0), "o-", color=INK, linewidth=2, markersize=4)
                else:
                    axes.text(0.5, 0.5, "no pairs", ha="center", transform=axes.transAxes, fontsize=8, color=GRAY)
                if region == regions[0]:
                    axes.set_title(wrapped(row["name"]), fontsize=8.5, color=INK)
                ends = [wrapped(row["reference"], 11), "this row"] if region == regions[-1] else ["", ""]
                axes.set_xticks((0, 1), ends)
                axes.set_xlim(-0.25, 1.25)
                plainly(axes)
                axes.tick_params(labelsize=7.5)
                axes.grid(axis="y", color="#ececec", linewidth=0.6)
            line[0].set_ylabel(f"{region}, Dice", fontsize=9)
        figures.append(svg(figure))
    return figures


def cases(
    table: Mapping[str, Any], records: Sequence[Mapping[str, Any]], pictures: Mapping[tuple, str | os.PathLike]
) -> list[dict[str, Any]]:
    """Worst and best test subject, by mean Dice over the regions, of the reference and of the best synthetic row."""
    best = best_synthetic(table)
    rows = [row for row in table["rows"] if row["is_reference"]] + ([best] if best is not None else [])
    found = []
    for row in rows:
        own = pd.DataFrame([r for r in records if r["row"] == row["name"] and r["dice"] is not None])
        if own.empty:
            continue
        own["dice"] = own["dice"].astype(float)
        # only subjects whose regions all have a Dice can be ranked by their mean
        by_region = own.pivot_table(index="subject", columns="region", values="dice").dropna().mean(axis=1)
        if by_region.empty:
            continue
        ends = {"worst": by_region.idxmin(), "best": by_region.idxmax()}
        for kind, subject in ends.items():
            if kind == "best" and len(by_region) == 1:
                continue
            found.append(
                {"row": row["name"], "kind": kind, "subject": subject} | _picture(own, subject, table, pictures)
            )
    return found


def _picture(
    own: pd.DataFrame, subject: Any, table: Mapping[str, Any], pictures: Mapping[tuple, str | os.PathLike]
) -> dict[str, Any]:
    """The picture of a subject from the first of its trainings that has one, with the Dice of that training."""
    runs = own[own["subject"] == subject]
    wanted = {tuple(str(part) for part in key): Path(path) for key, path in pictures.items()}
    keys = sorted(
        {(r["fold"], r["seed"]) for _, r in runs.iterrows()}, key=lambda key: [natural(str(part)) for part in key]
    )
    for fold, seed in keys:
        path = wanted.get((str(runs.iloc[0]["row"]), table["segmenter"], str(fold), str(seed), str(subject)))
        if path is not None and path.is_file():
            run = runs[(runs["fold"].map(str) == str(fold)) & (runs["seed"].map(str) == str(seed))]
            dice = dict(zip(run["region"], run["dice"], strict=True))
            said = ", ".join(f"{region} {dice[region]:.3f}" for region in table["regions"] if region in dice)
            return {"uri": data_uri("png", path.read_bytes()), "fold": fold, "seed": seed, "dice": said}
    mean = runs.groupby("region")["dice"].mean()
    said = ", ".join(f"{region} {mean[region]:.3f}" for region in table["regions"] if region in mean)
    return {"uri": None, "fold": None, "seed": None, "dice": said}


def failure(run: Mapping[str, Any]) -> dict[str, str]:
    """A training that failed: which, and the end of its log."""
    which = [f"{key} {run[key]}" for key in ("fold", "seed") if run.get(key) is not None]
    named = [str(run[key]) for key in ("row", "segmenter") if run.get(key)]
    return {
        "title": ", ".join([*named, *which]) or str(run.get("step", "a step")),
        "log": str(run.get("log") or ""),
        "tail": str(run.get("tail") or "nothing was logged"),
    }


def described(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row is trained on, in words."""
    parts = [f"{share(row.get('real', 1.0))} of the real subjects"] if row.get("real", 1.0) else []
    parts += [f"{amount:g} x {name}" for name, amount in (row.get("synthetic") or {}).items() if amount]
    tune = row.get("fine_tune")
    return {
        "name": row["name"],
        "trained": " + ".join(parts) or "nothing",
        "fine_tune": "none" if not tune else fine_tuning(**tune),
        "augmentation": str(row.get("augmentation", "none")),
        "grid": grid_name(row.get("grid")),
        "options": json.dumps(plain(row["options"])) if row.get("options") else "",
    }


def fine_tuning(real: float = 1.0, steps: float = 0.25, options: Mapping[str, Any] | None = None) -> str:
    """A row's fine-tuning in words."""
    told = f", {json.dumps(plain(options))}" if options else ""
    return f"last {share(steps)} of the steps on {share(real)} of the real{told}"


def share(part: float) -> str:
    """A part of one in per cent."""
    return f"{100 * part:g}%"


def duration(seconds: float | None) -> str:
    """Seconds in words of a clock: "3 h 05 min", "4 min 10 s", "0.8 s"."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def as_json(value: Any) -> str:
    """``value`` as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def wrapped(text: str, width: int = 18) -> str:
    """``text`` on several lines of about ``width`` letters; no word is broken."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def plainly(axes: Axes) -> None:
    """No frame but the axes themselves, small gray figures, grid lines behind."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRAY)
    axes.tick_params(labelsize=8.5, color=GRAY, labelcolor=INK, length=2.5)
    axes.set_axisbelow(True)


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
