"""The page stands on its own, says what the numbers say and no more, and is the same each time."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imsave

from mrsynth.study.report import duration, reading, write_report
from mrsynth.study.statistics import summarize

ROWS = [
    {"name": "Real", "real": 1.0, "grid": "slab", "published": {"WT": 0.611}},
    {"name": "Real + 1x <GAN>", "real": 1.0, "synthetic": {"gan": 1.0}, "grid": "slab"},
    {
        "name": "1x Copy",
        "real": 0.0,
        "synthetic": {"copy": 1.0},
        "grid": "slab",
        "fine_tune": {"real": 0.5, "steps": 0.25},
    },
    {"name": "Lost", "real": 0.5, "grid": "slab"},
]
STUDY = {
    "config": {"dataset_dir": "/data/BraTS", "note": "<script>alert(1)</script>"},
    "versions": {"torch": "2.13.0"},
    "hashes": {"train.json": "ab" * 32},
    "commands": ["python -m monai.bundle run study --folds 3", ["python", "-m", "more"]],
    "steps": [{"step": "train Real", "status": "done", "seconds": 75.0, "log": "logs/0.txt"}],
    "failed": [
        {"row": "Lost", "segmenter": "unet", "fold": 1, "seed": 0, "log": "logs/1.txt", "tail": "Killed <signal 9>"}
    ],
    "max_iterations": 1200,
    "subjects": {0: {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}},
    "grids": {"slab": "8 x 8 x 4 voxels; scored on the training grid"},
    "stopped": "expected: <nothing>",
    "other_versions": ["torch: 2.12.0 in 3 steps, 2.13.0 in 1 steps"],
    "parallel": 2,
}


def invented(n: int = 6, segmenters: tuple[str, ...] = ("unet", "deepmedic"), shift: float = 0.02) -> list[dict]:
    """Scores in which subject ``s00`` is always the worst and the last one the best."""
    draw = np.random.default_rng(0)
    return [
        {"row": row, "grid": "slab", "segmenter": segmenter, "fold": s % 2, "seed": seed, "subject": f"s{s:02d}"}
        | {"region": region, "dice": float(0.3 + add + 0.08 * s + draw.uniform(0, 0.01))}
        | {"hd95": 5.0, "sensitivity": 0.5, "precision": 0.5}
        for segmenter in segmenters
        for row, add in (("Real", 0.0), ("Real + 1x <GAN>", shift), ("1x Copy", -0.2))
        for s in range(n)
        for seed in (0, 1)
        for region in ("WT", "TC", "ET")
    ]


class Page(HTMLParser):
    """What a page refers to, which tags it leaves open, and its text."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, str, dict]:
    folder = tmp_path_factory.mktemp("report")
    pictures = {}
    for row in ("Real", "Real + 1x <GAN>"):
        for s in (0, 5):
            path = folder / f"{len(pictures)}.png"
            imsave(path, np.full((4, 4 + len(pictures)), 0.5))
            pictures[row, "unet", s % 2, 0, f"s{s:02d}"] = path
    write_report(folder / "a", invented(), ROWS, "Real", "1x Copy", STUDY, pictures)
    return folder, (folder / "a" / "study.html").read_text(encoding="utf-8"), pictures


def test_it_stands_on_its_own(written):
    page = Page(written[1])
    assert page.open == [] and not page.tags & {"script", "link", "iframe", "object"}
    assert page.links and all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not re.search(r"https?://|url\(|@import|javascript:", unquote(written[1]))


def test_the_same_input_gives_the_same_bytes_in_any_order(written):
    folder, _, pictures = written
    again = dict(reversed(pictures.items()))
    write_report(folder / "b", list(reversed(invented())), ROWS, "Real", "1x Copy", STUDY, again)
    names = {path.name for path in (folder / "a").iterdir()}
    assert names == {"results.csv", "results.json", "table.md", "table.tex", "study.html"}
    for name in names:
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()


def test_everything_given_is_shown_and_escaped(written):
    text = Page(written[1]).text
    for said in (
        "Real + 1x <GAN>",
        "<script>alert(1)</script>",
        "Killed <signal 9>",
        "ab" * 32,
        "2.13.0",
        "1 min 15 s",
        "expected: <nothing>",
        "torch: 2.12.0 in 3 steps",
        "Grid slab: 8 x 8 x 4 voxels",
    ):
        assert said in text
    for said in ("published", "WT 0.611", "--folds 3", "python -m more", "1200 optimizer steps", "parallel"):
        assert said in text
    assert "last 25% of the steps on 50% of the real" in text and "Lost, unet, fold 1, seed 0" in text


def test_worst_and_best_subjects_are_shown_with_the_pictures_given(written):
    _, html, pictures = written
    for path in pictures.values():
        assert base64.b64encode(path.read_bytes()).decode() in html
    text = Page(html).text
    for row in ("Real", "Real + 1x <GAN>"):
        assert f"{row}, worst: s00." in text and f"{row}, best: s05." in text
    assert text.count("no picture was kept") == 4  # the other segmenter's


def test_figures_are_vector_graphics(written):
    figures = [link for link in Page(written[1]).links if link.startswith("data:image/svg+xml")]
    assert len(figures) == 4  # boxes and pairs of two segmenters
    for figure in figures:
        assert b"</svg>" in base64.b64decode(figure.split(",")[1])


def read(shift: float, n: int = 12) -> str:
    records = invented(n, ("unet",), shift)
    return reading(summarize(records, ROWS[:3], "Real", "1x Copy", measures=("dice",))["tables"][0], "1x Copy")


def test_the_reading_says_what_was_shown():
    gain, nothing = read(0.02), read(0.0)
    assert "3 show a gain, 3 a loss and 0 no difference" in gain
    assert re.search(r"Real \+ 1x <GAN> differs from Real in WT by \+2\.\d Dice points \(95% interval \+", gain)
    assert "0 show a gain, 3 a loss and 3 no difference" in nothing and "no difference shown" in nothing
    assert (
        re.search(r"Other losses shown: 1x Copy \(WT −\d\d\.\d, TC −", gain)
        and "differs from 1x Copy in WT by +2" in gain
    )
    assert "cannot" not in gain and "can show nothing" not in gain


def test_the_reading_says_when_tests_can_show_nothing():
    assert "no corrected p can be below 0.38" in read(0.02, 5)  # 6 comparisons of 2 / 2**5
    assert "0 show a gain" in read(0.02, 5)


def test_a_study_without_a_score_still_gives_a_page(tmp_path):
    write_report(tmp_path, [], ROWS, "Real", None, {"failed": [{"step": "train GAN", "tail": "no memory"}]}, {})
    text = Page((tmp_path / "study.html").read_text(encoding="utf-8")).text
    assert "nothing to read" in text and "no memory" in text and "train GAN" in text


def test_one_subject_and_no_picture_still_give_a_page(tmp_path):
    write_report(tmp_path, invented(1, ("unet",)), ROWS, "Real", "1x Copy", {}, {})
    text = Page((tmp_path / "study.html").read_text(encoding="utf-8")).text
    assert "no interval: one subject has no spread" in text and "nan" not in text.lower().split()


def test_durations_are_read_off_a_clock():
    assert [duration(s) for s in (0.84, 75, 3900, None)] == ["0.8 s", "1 min 15 s", "1 h 05 min", ""]
