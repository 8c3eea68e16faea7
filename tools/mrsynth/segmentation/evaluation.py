"""Evaluation of a trained segmenter on held-out subjects: all measures by subject and region, with pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn
from tqdm import tqdm

from mrsynth import __version__
from mrsynth.conventions import REGIONS, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import write_csv, write_json
from mrsynth.metrics import MEASURES, mean_sd, mean_sd_text, region_scores, to_label
from mrsynth.segmentation.inference import LogitsToLabeld
from mrsynth.segmentation.pictures import outlines
from mrsynth.segmentation.preprocessing import preprocessing
from mrsynth.training import Montage, SeededDataset
from mrsynth.transforms.geometry import as_array

logger = logging.getLogger(__name__)


class SegmentationEvaluation:
    """Score a segmenter on held-out subjects; write and print the result.

    ``<output_dir>/evaluation/metrics.json`` holds everything, ``per_subject.csv`` a line for each subject and region,
    ``pictures/<subject>.png`` the true and the predicted outline. :mod:`mrsynth.metrics.overlap` describes the scores
    of empty regions.

    Args:
        network: the segmenter with its weights, on ``device``.
        inferer: applies the network to a whole volume.
        items: datalist items of the test subjects, with labels.
        settings: ``spatial_size``, ``crop`` and ``interpolation`` of the input, and further values to record.
        record: record of the weights.
        device: device of the network.
        output_dir: folder in which ``evaluation/`` is made.
        grid: ``native`` scores on the grid of the files; ``training`` on the grid of the network, as the thesis did.

    Raises:
        UserError: a test subject without a label, or an unknown grid.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer,
        items: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        record: Mapping[str, Any],
        device: torch.device | str,
        output_dir: str | os.PathLike,
        grid: str = "native",
    ) -> None:
        if unlabeled := [item["subject"] for item in items if not item.get("label")]:
            raise UserError(
                "a label for every test subject",
                f"{len(unlabeled)} without: {', '.join(unlabeled[:5])}",
                "datalist",
                "add their labels to the datalist, or remove these subjects from its test section",
            )
        self.network, self.inferer, self.device = network.eval(), inferer, torch.device(device)
        self.settings, self.record, self.grid = dict(settings), record, grid
        self.finish = LogitsToLabeld(grid)
        self.folder = Path(output_dir).expanduser().absolute() / "evaluation"
        prepare = preprocessing(settings["spatial_size"], settings["crop"], settings["interpolation"], keep_native=True)
        self.subjects = SeededDataset(items, prepare, cache="none")

    @torch.no_grad()
    def run(self) -> dict[str, Any]:
        """Segment and score each subject; returns the content of ``metrics.json``."""
        rows: list[dict[str, Any]] = []
        for index in tqdm(range(len(self.subjects)), unit="subject"):
            item = self.subjects[index]
            logits = self.inferer(item["image"].as_tensor()[None].to(self.device), self.network)[0]
            predicted = self.finish({**item, "pred": logits})["pred"]
            found, spacing = as_array(predicted)[0], np.linalg.norm(as_array(predicted.affine)[:3, :3], axis=0)
            true = as_array(to_label(item["label"].as_tensor()[0]))
            scores = region_scores(found, as_array(item["native_label"])[0] if self.grid == "native" else true, spacing)
            rows += [{"subject": item["subject"], "region": region, **scores[region]} for region in REGIONS]
            # on the grid of the network, whatever is scored
            shown = as_array(to_label(logits.argmax(dim=0).cpu()))
            image = as_array(item["image"]), as_array(item["image"].affine)
            montage = Montage(outlines(*image, true, shown, item["subject"]), SEQUENCES)
            montage.save(self.folder / "pictures" / f"{item['subject']}.png")
        result = {
            "weights": {k: v for k, v in self.record.items() if k in ("sha256", "version", "epoch")},
            "version": __version__,
            "settings": self.settings,
            "grid": self.grid,
            "subjects": [item["subject"] for item in self.subjects.data],
            "regions": {
                region: {m: mean_sd(row[m] for row in rows if row["region"] == region) for m in MEASURES}
                for region in REGIONS
            },
            "per_subject": rows,
        }
        write_json(self.folder / "metrics.json", result)
        write_csv(self.folder / "per_subject.csv", rows)
        logger.info(f"{table(result)}\n\nMade in {self.folder}:\n  metrics.json, per_subject.csv, pictures")
        return result


def table(result: Mapping[str, Any]) -> str:
    """The result as a short text."""
    units = {"dice": "Dice", "hd95": "HD95, mm", "sensitivity": "sensitivity", "precision": "precision"}
    lines = [f"\n{len(result['subjects'])} held-out subjects, {result['grid']} grid: mean (sd)"]
    lines.append(f"  {'':4}" + "".join(f"{units[m]:>18}" for m in MEASURES))
    for region, values in result["regions"].items():
        lines.append(f"  {region:4}" + "".join(f"{mean_sd_text(values[m]):>18}" for m in MEASURES))
    return "\n".join(lines)
