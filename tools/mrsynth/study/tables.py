"""A study's tables, for people (Markdown, LaTeX) and for programs (CSV, JSON).

A :class:`Table` holds plain text by place; the templates beside this file, and the page of :mod:`mrsynth.study.report`,
only set it. Figures that somebody else published stand in a column of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from mrsynth.files import atomic_path, write_json
from mrsynth.manifest.splits import natural
from mrsynth.study.statistics import KEYS, LEVEL, verdict
from mrsynth.study.steps import plain
from mrsynth.study.timing import roughly

PUBLISHED = "published"
ABSENT = "–"
NAMES = {"hd95": "HD95, mm"}
DECIMALS = {"hd95": 1}
REGION_NAMES = {"WT": "Whole tumor", "TC": "Tumor core", "ET": "Enhancing tumor"}
VERDICTS = {
    "gain": "a gain",
    "loss": "a loss",
    "none": "no difference shown",
    "unclear": "unclear, as the rank test and the interval of the mean disagree",
    "unknown": "not tested",
}
DIFFERENCE = "difference\n[95% interval]\np (Holm)"


@dataclass
class Cell:
    """Lines of plain text in one place of a table.

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
        of: segmenter and grid.
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

    @property
    def heads(self) -> list[str]:
        """Each column's heading in one line, after that of its group."""
        groups = [name for name, span in self.groups for _ in range(span)]
        return [": ".join(filter(None, pair)) for pair in zip(groups, self.columns, strict=True)]

    @property
    def heading_lines(self) -> list[tuple[str, ...]]:
        """The columns' headings, line by line."""
        return list(zip_longest(*(column.split("\n") for column in self.columns), fillvalue=""))


def new_table(
    title: str, table: Mapping[str, Any], columns: list[str], lines: list[list[Cell]], notes: list[str]
) -> Table:
    """A table with ``columns`` for each region."""
    groups = [("", 1)] + [(REGION_NAMES.get(region, region), len(columns)) for region in table["regions"]]
    place = f"segmenter {table['segmenter']}, grid {table['grid']}"
    return Table(title, place, groups, ["Training set", *(columns * len(table["regions"]))], lines, notes)


def dice_table(table: Mapping[str, Any], reference: str, study: Mapping[str, Any]) -> Table:
    """Dice of one segmenter on one grid: each region's mean, and its difference from the reference row."""
    source = study.get("published") or {}
    beside = source.get("segmenters") or [table["segmenter"]]
    published = table["segmenter"] in beside and any(row["published"] for row in table["rows"])
    name = (source.get("name") or PUBLISHED) if published else ""
    best, lines = _best(table), []
    for row in table["rows"]:
        line = [Cell(tuple(sentences("name", row, table, reference)))]
        for region in table["regions"]:
            cell = row["regions"][region]
            line.append(Cell(_mean(cell["dice"], 3), bold=best.get(region) == row["name"]))
            line.append(Cell(_difference(cell["difference"], row["is_reference"])))
        if published:
            figures = [f"{region} {value:.3f}" for region, value in row["published"].items() if value is not None]
            line.append(Cell(tuple(figures) or (ABSENT,), alike=True))
        lines.append(line)
    kinds = ("dice", "difference")
    found = [row["regions"][region][kind] for row in table["rows"] for region in table["regions"] for kind in kinds]
    methods = sorted({one["method"] for one in found if one["method"]})
    iterations, grid = study.get("max_iterations"), (study.get("grids") or {}).get(table["grid"])
    notes = sentences("dice_notes", table, reference, iterations, grid, methods, name)
    made = new_table("Dice on test subjects", table, ["mean (sd)\n[95% interval]", DIFFERENCE], lines, notes)
    if published:
        made.groups.append((name.replace(", ", ",\n"), 1))
        made.columns.append("Dice")
    return made


def baseline_table(table: Mapping[str, Any], baseline: str | None) -> Table:
    """Each row as a share of its reference, against the baseline row, and how far seeds lie apart."""
    beaten = baseline is not None and any(row["is_baseline"] for row in table["rows"])
    lines = []
    for row in table["rows"]:
        line = [Cell((row["name"],))]
        for cell in (row["regions"][region] for region in table["regions"]):
            ratio, spread = cell["difference"]["ratio"], cell["dice"]["sd_seeds"]
            share = ABSENT if ratio is None else f"{100 * ratio:.1f}%"
            line.append(Cell(("reference" if row["is_reference"] else share,)))
            if beaten:
                line.append(Cell(_difference(cell["baseline_difference"], row["is_baseline"], "baseline")))
            line.append(Cell((_number(None if spread is None else 100 * spread, 1),)))
        lines.append(line)
    headings = ["share of\nreference", *([DIFFERENCE] if beaten else []), "sd over\nseeds"]
    title = f"Against the baseline {baseline}" if beaten else "Share of the reference"
    notes = sentences("baseline_notes", table, baseline if beaten else None)
    return new_table(title, table, headings, lines, notes)


def measures_table(table: Mapping[str, Any], measures: Sequence[str]) -> Table | None:
    """The measures beside Dice, mean (sd) over subjects; None where there is none."""
    others = [measure for measure in measures if measure != "dice"]
    if not others:
        return None
    lines, missing = [], False
    for row in table["rows"]:
        line = [Cell((row["name"],))]
        for measure, found in ((m, row["regions"][region][m]) for region in table["regions"] for m in others):
            undefined = [f"{found['missing']} undefined"] if found["missing"] else []
            missing |= bool(undefined)
            line.append(Cell((_mean(found, DECIMALS.get(measure, 3))[0], *undefined)))
        lines.append(line)
    headings = [NAMES.get(measure, measure) for measure in others]
    return new_table("Other measures", table, headings, lines, sentences("measures_notes", others, missing))


def all_tables(summary: Mapping[str, Any], study: Mapping[str, Any]) -> list[Table]:
    """The tables of every segmenter and grid, Dice first."""
    found = [
        (
            dice_table(table, summary["reference"], study),
            baseline_table(table, summary["baseline"]),
            measures_table(table, summary["measures"]),
        )
        for table in summary["tables"]
    ]
    return [table for tables in found for table in tables if table is not None]


def markdown(table: Table) -> str:
    """``table`` in GitHub's Markdown."""
    return TEMPLATES.get_template("table.md.j2").render(table=table)


def latex(table: Table) -> str:
    """``table`` for LaTeX with the packages booktabs and graphicx."""
    return TEMPLATES.get_template("table.tex.j2").render(table=table)


def escape_latex(text: str) -> str:
    """``text`` as LaTeX prints it letter by letter; a line's end becomes a space."""
    plain = "".join(c if c.isprintable() else "?" for c in text.replace("\n", " "))
    return plain.translate(LATEX)


def ordered(records: Iterable[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records in table order, whatever order they came in, as JSON can hold them."""
    place = {row["name"]: index for index, row in reversed(list(enumerate(rows)))}
    region = {name: index for index, name in enumerate(REGION_NAMES)}

    def key(record: Mapping[str, Any]) -> list:
        rest = [natural(str(record[k])) for k in ("grid", "segmenter", "fold", "seed", "subject")]
        return [place[record["row"]], *rest, region.get(record["region"], len(region)), record["region"]]

    return [plain(record) for record in sorted(records, key=key)]


def write_results(
    folder: str | os.PathLike,
    records: Iterable[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    study: Mapping[str, Any],
) -> list[Table]:
    """Write ``results.csv``, ``results.json``, ``table.md`` and ``table.tex`` to ``folder``; the tables written."""
    folder, records, tables = Path(folder), ordered(records, rows), all_tables(summary, study)
    content = {"summary": summary, "rows": list(rows), "study": study, "records": records}
    write_json(folder / "results.json", plain(content))
    frame = pd.DataFrame(records, columns=[*KEYS, *summary["measures"]], dtype=object)
    needs = "% needs \\usepackage{booktabs,graphicx} and, for names beyond ASCII, an engine that reads UTF-8\n\n"
    for name, text in {
        "results.csv": frame.to_csv(index=False, lineterminator="\n"),
        "table.md": "\n".join(map(markdown, tables)),
        "table.tex": needs + "\n".join(map(latex, tables)),
    }.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return tables


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign, "+0.4" or "−1.2"; what rounds to zero has none."""
    text = f"{abs(value):.{decimals}f}"
    return text if not float(text) else ("+" if value > 0 else "−") + text


def p_text(p: float | None) -> str:
    """A p to two figures: "0.61", "0.032", "<0.001"."""
    if p is None:
        return ABSENT
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def sentences(name: str, *about: Any) -> list[str]:
    """The lines that a macro of ``words.j2`` gives."""
    text = str(getattr(TEMPLATES.get_template("words.j2").module, name)(*about))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _best(table: Mapping[str, Any]) -> dict[str, str]:
    """For each region the row of the highest mean, if its gain over its reference is shown on all subjects."""
    found = {}
    for region in table["regions"]:
        scored = {row["name"]: row["regions"][region] for row in table["rows"]}
        scored = {name: cell for name, cell in scored.items() if cell["dice"]["mean"] is not None}
        name = max(scored, key=lambda name: scored[name]["dice"]["mean"], default="")
        most = max((cell["dice"]["n"] for cell in scored.values()), default=0)
        if name and scored[name]["dice"]["n"] == most and verdict(scored[name]["difference"]) == "gain":
            found[region] = name
    return found


def _number(value: float | None, decimals: int) -> str:
    return ABSENT if value is None else f"{value:.{decimals}f}"


def _mean(found: Mapping[str, Any], decimals: int) -> tuple[str, ...]:
    if found["mean"] is None:
        return (ABSENT,)
    ends = [signed(end, decimals).removeprefix("+") for end in found["interval"] or ()]
    between = [f"[{', '.join(ends)}]"] if ends else []
    return (f"{_number(found['mean'], decimals)} ({_number(found['sd'], decimals)})", *between)


def _difference(found: Mapping[str, Any], itself: bool, word: str = "reference") -> tuple[str, ...]:
    if found["mean"] is None:
        return (word if itself else ABSENT,)
    between = [f"[{', '.join(map(signed, found['interval']))}]"] if found["interval"] else []
    return (signed(found["mean"]), *between, f"p {p_text(found['p_holm'])}")


MARKDOWN = str.maketrans({"\n": " ", **{character: "\\" + character for character in "\\|*_`<>"}})
LATEX = str.maketrans(
    {
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
)

# unlike Jinja's own marks, these do not occur in LaTeX
TEMPLATES = jinja2.Environment(
    *("<%", "%>", "<<", ">>", "<#", "#>"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
)
TEMPLATES.filters["md"] = lambda text: text.translate(MARKDOWN)
TEMPLATES.filters |= {"tex": escape_latex, "roughly": roughly, "signed": signed, "p_text": p_text, "verdict": verdict}
TEMPLATES.globals |= {"LEVEL": LEVEL, "VERDICTS": VERDICTS}
