"""A study's tables, for people (Markdown, LaTeX) and for programs (CSV, JSON).

A :class:`Table` says what stands where, in plain text; :func:`markdown` and :func:`latex` and the page of
:mod:`mrsynth.study.report` only set it. Figures that somebody else published stand in a column of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mrsynth.files import atomic_path, write_json
from mrsynth.manifest.splits import natural
from mrsynth.metrics import MEASURES
from mrsynth.study.statistics import KEYS, LEVEL, verdict
from mrsynth.study.steps import plain

PUBLISHED = "published"
ABSENT = "–"
NAMES = {"dice": "Dice", "hd95": "HD95, mm", "sensitivity": "sensitivity", "precision": "precision"}
DECIMALS = {"hd95": 1}
REGION_NAMES = {"WT": "Whole tumor", "TC": "Tumor core", "ET": "Enhancing tumor"}


@dataclass
class Cell:
    """Lines of plain text that stand in one place of a table.

    Attributes:
        lines: the figure, and below it what qualifies it.
        bold: whether the first line stands out.
        alike: whether no line qualifies another.
    """

    lines: tuple[str, ...]
    bold: bool = False
    alike: bool = False


@dataclass
class Table:
    """A table before it is set.

    Attributes:
        title: what it shows.
        of: which segmenter and grid.
        groups: headings over the columns: text and number of columns.
        columns: headings of the columns.
        lines: one a row, each with a cell a column.
        notes: sentences that stand below.
    """

    title: str
    of: str
    groups: list[tuple[str, int]]
    columns: list[str]
    lines: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    @property
    def caption(self) -> str:
        """Title, segmenter and grid."""
        return f"{self.title}: {self.of}"


def place(table: Mapping[str, Any]) -> str:
    """Which segmenter and grid a table is about."""
    return f"segmenter {table['segmenter']}, grid {table['grid']}"


def dice_table(table: Mapping[str, Any], reference: str, study: Mapping[str, Any]) -> Table:
    """Dice of one segmenter on one grid: each region's mean, and its difference from the reference row."""
    regions = table["regions"]
    source = study.get("published") or {}
    beside = source.get("segmenters") or [table["segmenter"]]
    published = table["segmenter"] in beside and any(row["published"] for row in table["rows"])
    name = source.get("name") or PUBLISHED
    groups = [("", 1)] + [(REGION_NAMES.get(region, region), 2) for region in regions]
    columns = ["Training set"] + ["mean (sd)\n[95% interval]", "difference\n[95% interval]\np (Holm)"] * len(regions)
    if published:
        groups.append((name.replace(", ", ",\n"), 1))
        columns.append("Dice")
    best = _best(table)
    lines = []
    for row in table["rows"]:
        line = [Cell(_name(row, table, reference))]
        for region in regions:
            cell = row["regions"][region]
            line.append(Cell(_mean(cell["dice"], 3), bold=best.get(region) == row["name"]))
            line.append(Cell(_difference(cell["difference"], row["is_reference"])))
        if published:
            figures = [f"{region} {value:.3f}" for region, value in row["published"].items() if value is not None]
            line.append(Cell(tuple(figures) or (ABSENT,), alike=True))
        lines.append(line)
    notes = _notes(table, reference, study)
    if published:
        notes.append(f"{name}: published, on other data and other test subjects; copied and not ours.")
    return Table("Dice on test subjects", place(table), groups, columns, lines, notes)


def baseline_table(table: Mapping[str, Any], baseline: str | None) -> Table:
    """Each row as a share of its reference, against the baseline row, and how far seeds lie apart."""
    regions = table["regions"]
    beaten = baseline is not None and any(row["is_baseline"] for row in table["rows"])
    headings = ["share of\nreference", "sd over\nseeds"]
    if beaten:
        headings.insert(1, "difference\n[95% interval]\np (Holm)")
    groups = [("", 1)] + [(REGION_NAMES.get(region, region), len(headings)) for region in regions]
    lines = []
    for row in table["rows"]:
        line = [Cell((row["name"],))]
        for region in regions:
            cell = row["regions"][region]
            ratio, spread = cell["difference"]["ratio"], cell["dice"]["sd_seeds"]
            share = "reference" if row["is_reference"] else ABSENT if ratio is None else f"{100 * ratio:.1f}%"
            line.append(Cell((share,)))
            if beaten:
                line.append(Cell(_difference(cell["baseline_difference"], row["is_baseline"], "baseline")))
            line.append(Cell((_number(None if spread is None else 100 * spread, 1),)))
        lines.append(line)
    notes = [
        "Share: mean Dice over that of the row's reference, on the subjects both have. Sd over seeds: of the mean "
        "over subjects, in Dice points, between trainings of the segmenter that differ in its seed alone; a generator "
        "is trained once a fold, and how much another training of it would change is in none of these figures."
    ]
    if beaten:
        count = table["comparisons"]["baseline_difference"]
        notes.append(f"Differences here are from {baseline}; p is corrected over these {count} comparisons by Holm.")
    title = f"Against the baseline {baseline}" if beaten else "Share of the reference"
    return Table(title, place(table), groups, ["Training set", *headings * len(regions)], lines, notes)


def measures_table(table: Mapping[str, Any], measures: Sequence[str]) -> Table | None:
    """The measures beside Dice, mean (sd) over subjects; None where there is none."""
    others = [measure for measure in measures if measure != "dice"]
    if not others:
        return None
    regions, lines, missing = table["regions"], [], False
    for row in table["rows"]:
        line = [Cell((row["name"],))]
        for region in regions:
            for measure in others:
                found = row["regions"][region][measure]
                text = [_mean(found, DECIMALS.get(measure, 3))[0]]
                if found["missing"]:
                    missing = True
                    text.append(f"{found['missing']} undefined")
                line.append(Cell(tuple(text)))
        lines.append(line)
    notes = ["Mean (sd) over subjects, seeds averaged for each subject first."]
    if "hd95" in others:
        notes.append("Where one of prediction and truth is empty, the distance counts as the diagonal of the volume.")
    if missing:
        notes.append(
            "Undefined: scores that do not exist; they are not in the mean, which flatters a row that has many."
        )
    groups = [("", 1)] + [(REGION_NAMES.get(region, region), len(others)) for region in regions]
    columns = ["Training set"] + [NAMES.get(measure, measure) for measure in others] * len(regions)
    return Table("Other measures", place(table), groups, columns, lines, notes)


def all_tables(summary: Mapping[str, Any], study: Mapping[str, Any]) -> list[Table]:
    """The tables of every segmenter and grid, Dice first."""
    found: list[Table] = []
    for table in summary["tables"]:
        found.append(dice_table(table, summary["reference"], study))
        found.append(baseline_table(table, summary["baseline"]))
        if others := measures_table(table, summary["measures"]):
            found.append(others)
    return found


def markdown(table: Table) -> str:
    """``table`` in GitHub's Markdown."""
    heads = [group for group, span in table.groups for _ in range(span)]
    heads = [
        ": ".join(filter(None, (group, _flat(column)))) for group, column in zip(heads, table.columns, strict=True)
    ]
    lines = ["**" + _escape_markdown(table.caption) + "**", "", _line(heads), _line(["---"] * len(heads))]
    for line in table.lines:
        cells = []
        for cell in line:
            first, *rest = [_escape_markdown(text) for text in cell.lines]
            cells.append("<br>".join([f"**{first}**" if cell.bold else first, *rest]))
        lines.append(_line(cells, escape=False))
    return "\n".join([*lines, "", " ".join(_escape_markdown(note) for note in table.notes), ""])


def latex(table: Table) -> str:
    """``table`` for LaTeX with the packages booktabs and graphicx."""
    heads = [column.split("\n") for column in table.columns]
    height = max(len(head) for head in heads)
    groups, rules, at = [], [], 1
    for name, span in table.groups:
        groups.append(f"\\multicolumn{{{span}}}{{c}}{{{escape_latex(name)}}}" if name else " & ".join([""] * span))
        if name:
            rules.append(f"\\cmidrule(lr){{{at}-{at + span - 1}}}")
        at += span
    body = []
    for line in table.lines:
        # a cell's second line is a line of the table of its own
        for index in range(max(len(cell.lines) for cell in line)):
            texts = [escape_latex(cell.lines[index]) if index < len(cell.lines) else "" for cell in line]
            stands_out = [cell.bold and index == 0 for cell in line]
            bold = [f"\\textbf{{{t}}}" if out else t for t, out in zip(texts, stands_out, strict=True)]
            body.append(" & ".join(bold) + r" \\")
        body.append(r"\addlinespace")
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            f"\\caption{{{escape_latex(table.caption)}}}",
            r"\resizebox{\textwidth}{!}{%",
            f"\\begin{{tabular}}{{l{'c' * (len(heads) - 1)}}}",
            r"\toprule",
            " & ".join(groups) + r" \\",
            " ".join(rules),
            *[
                " & ".join(escape_latex(head[index]) if index < len(head) else "" for head in heads) + r" \\"
                for index in range(height)
            ],
            r"\midrule",
            *body[:-1],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\footnotesize\raggedright",
            " ".join(escape_latex(note) for note in table.notes),
            r"\end{table*}",
            "",
        ]
    )


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "{}$&#_%"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line's end, a bracket would be taken for its optional argument
    "]": "{]}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "·": r"$\cdot$",
}


def escape_latex(text: str) -> str:
    """``text`` as LaTeX prints it letter by letter; a line's end becomes a space."""
    plain = "".join(LATEX.get(character, character) for character in text.replace("\n", " "))
    return "".join(c if c.isprintable() else "?" for c in plain)


def ordered(records: Iterable[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records in table order, whatever order they came in, as JSON can hold them."""
    place = {row["name"]: index for index, row in reversed(list(enumerate(rows)))}
    region = {name: index for index, name in enumerate(REGION_NAMES)}

    def key(record: Mapping[str, Any]) -> list:
        rest = [natural(str(record[k])) for k in ("grid", "segmenter", "fold", "seed", "subject")]
        return [place[record["row"]], *rest, region.get(record["region"], len(region)), record["region"]]

    return [plain(record) for record in sorted(records, key=key)]


def write_csv(
    path: str | os.PathLike, records: Iterable[Mapping[str, Any]], measures: Sequence[str] = MEASURES
) -> None:
    """Write the records, a line each; a score that does not exist is empty."""
    frame = pd.DataFrame([plain(record) for record in records], columns=[*KEYS, *measures], dtype=object)
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def write_results(
    folder: str | os.PathLike,
    records: Iterable[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    study: Mapping[str, Any],
) -> list[Table]:
    """Write ``results.csv``, ``results.json``, ``table.md`` and ``table.tex`` to ``folder``; the tables written."""
    folder, records = Path(folder), ordered(records, rows)
    write_csv(folder / "results.csv", records, summary["measures"])
    content = {"summary": summary, "rows": list(rows), "study": study, "records": records}
    write_json(folder / "results.json", plain(content))
    tables = all_tables(summary, study)
    needs = "% needs \\usepackage{booktabs,graphicx} and, for names beyond ASCII, an engine that reads UTF-8\n\n"
    for name, text in (
        ("table.md", "\n".join(markdown(table) for table in tables)),
        ("table.tex", needs + "\n".join(latex(table) for table in tables)),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return tables


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, "+0.4" or "−1.2"; what rounds to zero has none."""
    text = f"{abs(value):.{decimals}f}"
    return text if not float(text) else ("+" if value > 0 else "−") + text


def unsigned(value: float, decimals: int = 1) -> str:
    """A number that is negative with a real minus sign, "0.4" or "−1.2"."""
    return signed(value, decimals).removeprefix("+")


def p_text(p: float | None) -> str:
    """A p to two figures: "0.61", "0.032", "<0.001"."""
    if p is None:
        return ABSENT
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _best(table: Mapping[str, Any]) -> dict[str, str]:
    """For each region the row of the highest mean, if its gain over its reference is shown on all subjects."""
    found = {}
    for region in table["regions"]:
        cells = {row["name"]: row["regions"][region] for row in table["rows"]}
        scored = [name for name, cell in cells.items() if cell["dice"]["mean"] is not None]
        if not scored:
            continue
        name = max(scored, key=lambda name: cells[name]["dice"]["mean"])
        whole = cells[name]["dice"]["n"] == max(cells[other]["dice"]["n"] for other in scored)
        if whole and verdict(cells[name]["difference"]) == "gain":
            found[region] = name
    return found


def _name(row: Mapping[str, Any], table: Mapping[str, Any], reference: str) -> tuple[str, ...]:
    lines = [row["name"]]
    if row["is_reference"]:
        lines.append("(reference)")
    elif row["reference"] not in (None, reference):
        lines.append(f"(against {row['reference']})")
    n = min((row["regions"][region]["dice"]["n"] for region in table["regions"]), default=0)
    if n < len(table["subjects"]):
        lines.append(f"n = {n} of {len(table['subjects'])}")
    return tuple(lines)


def _number(value: float | None, decimals: int) -> str:
    return ABSENT if value is None else f"{value:.{decimals}f}"


def _mean(found: Mapping[str, Any], decimals: int) -> tuple[str, ...]:
    if found["mean"] is None:
        return (ABSENT,)
    spread = ABSENT if found["sd"] is None else f"{found['sd']:.{decimals}f}"
    low_high = found["interval"]
    between = [f"[{unsigned(low_high[0], decimals)}, {unsigned(low_high[1], decimals)}]"] if low_high else []
    return (f"{found['mean']:.{decimals}f} ({spread})", *between)


def _difference(found: Mapping[str, Any], itself: bool, word: str = "reference") -> tuple[str, ...]:
    if found["mean"] is None:
        return (word,) if itself else (ABSENT,)
    second = [f"[{signed(found['interval'][0])}, {signed(found['interval'][1])}]"] if found["interval"] else []
    return (signed(found["mean"]), *second, f"p {p_text(found['p_holm'])}")


def _notes(table: Mapping[str, Any], reference: str, study: Mapping[str, Any]) -> list[str]:
    n, folds, seeds = len(table["subjects"]), len(table["folds"]), len(table["seeds"])
    steps = study.get("max_iterations")
    count = table["comparisons"]["difference"]
    notes = [
        f"n = {n} test {_plural('subject', n)}, {folds} {_plural('fold', folds)}, {seeds} {_plural('seed', seeds)}"
        + (f", {steps} optimizer steps each." if steps else ".")
        + (f" Grid {table['grid']}: {grid}." if (grid := (study.get("grids") or {}).get(table["grid"])) else ""),
        f"Seeds are averaged for each subject; mean (sd) and bootstrap 95% interval of the mean are over subjects. "
        f"Differences are paired, in Dice points (Dice x 100), from {reference} where nothing else is said; "
        f"p: two-sided Wilcoxon signed-rank test, corrected by Holm over {count} {_plural('comparison', count)}.",
    ]
    if table["smallest_p"]:
        least = table["smallest_p"]
        notes.append(
            f"The smallest p that {n} {_plural('subject', n)} can give is at best {least:.2g}, or "
            f"{min(1.0, least * max(1, count)):.2g} after the correction."
        )
    methods = {
        found["method"]
        for row in table["rows"]
        for region in table["regions"]
        for found in (row["regions"][region]["dice"], row["regions"][region]["difference"])
        if found["method"]
    }
    if methods:
        notes.append(
            f"Bootstrap: {' and '.join(sorted(methods))}"
            + (", the latter where BCa is undefined." if len(methods) > 1 else ".")
        )
    notes.append(
        f"Bold: the highest mean, only if its gain is significant (p < {LEVEL:g}). The tests do not contain the spread "
        "between trainings, nor that folds share training subjects."
    )
    if (others := sum(not row["is_reference"] for row in table["rows"])) > 1:
        notes.append(f"The best of {others} rows was chosen on these same subjects, so its difference is optimistic.")
    return notes


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _flat(text: str) -> str:
    return text.replace("\n", " ")


def _line(cells: Sequence[str], escape: bool = True) -> str:
    return "| " + " | ".join(_escape_markdown(cell) if escape else cell for cell in cells) + " |"


def _escape_markdown(text: str) -> str:
    for character in "\\|*_`<>":
        text = text.replace(character, "\\" + character)
    return _flat(text)
