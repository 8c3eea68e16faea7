"""Evaluation of a generator on held-out subjects (Doncenco 2022, section 3.1, in figures).

*Fidelity*: given a test subject's own label, how similar is the image to the subject's MRI? *Diversity*: do synthetic
tumors vary over subjects as real ones do? *Obedience*: does a tumor that is moved in the label move in the image? The
tumor of one test subject is transplanted into the brain of another, and the t1ce contrast of the enhancing part
against the surrounding brain is measured at the new and the old place.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from mrsynth import __version__
from mrsynth.conventions import ENHANCING, SEQUENCES
from mrsynth.files import write_csv, write_json
from mrsynth.metrics import contrast, diversity, fidelity, mean_sd, mean_sd_text, shell, tumor_features
from mrsynth.synthesis import ordered_pairs
from mrsynth.training import SeededDataset
from mrsynth.transforms import EncodeSemanticd, SemanticLabeld, transplant
from mrsynth.transforms.geometry import as_array

from .preprocessing import preprocessing

T1CE = SEQUENCES.index("t1ce")
MEASURES = ("mae", "psnr", "ssim")


class SubjectEvaluation:
    """Measure a generator on held-out subjects, write the results and print a table.

    ``<output_dir>/evaluation/metrics.json`` holds everything, ``per_subject.csv`` the fidelity of each subject,
    region and sequence, ``per_pair.csv`` the contrasts of each moved tumor.

    Args:
        network: the generator with its weights, on ``device``.
        inferer: how it is called.
        items: datalist items of the test subjects.
        settings: of network and input, see :func:`mrsynth.settings.trained`.
        record: of the weights.
        device: of the network.
        output_dir: where ``evaluation/`` is made.
        seed: of the order of pairs.
        max_pairs: most tumors that are moved.
        cache: of the preprocessed subjects: ``memory``, ``disk`` or ``none``.
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
        seed: int = 0,
        max_pairs: int = 100,
        cache: str = "memory",
    ) -> None:
        self.network, self.inferer, self.device = network.eval(), inferer, torch.device(device)
        self.settings, self.record, self.seed, self.max_pairs = dict(settings), record, seed, max_pairs
        self.folder = Path(output_dir).expanduser().absolute() / "evaluation"
        names = ("spatial_size", "crop", "intensities", "condition", "interpolation")
        prepare = preprocessing(*[settings[name] for name in names])
        self.subjects = SeededDataset(items, prepare, cache=cache).subjects
        self.semantic = SemanticLabeld(["moved"], ["condition"], settings["condition"])
        self.own_t1ce: dict[str, np.ndarray] = {}
        self.encode = EncodeSemanticd(["condition"], settings["condition"], settings["label_encoding"] == "one_hot")

    def run(self) -> dict[str, Any]:
        """All three measurements, the last upon the first; returns what ``metrics.json`` says."""
        own, real, synthetic, before = [], [], [], []
        for subject in self.subjects:
            fake = self.synthesize(subject, subject["label"])
            self.own_t1ce[subject["subject"]] = fake[T1CE].copy()
            own += self.fidelity(subject, fake)
            label = as_array(subject["label"])[0]
            real.append(tumor_features(as_array(subject["image"]), label))
            synthetic.append(tumor_features(fake, label))
            before.append((self.own_contrast(subject, as_array(subject["image"])), self.own_contrast(subject, fake)))
        pairs = self.move_tumors()
        result = {
            "weights": {k: v for k, v in self.record.items() if k in ("sha256", "version", "epoch")},
            "version": __version__,
            "settings": self.settings,
            "seed": self.seed,
            "subjects": [subject["subject"] for subject in self.subjects],
            "fidelity": summarize_fidelity(own),
            "diversity": diversity(np.stack(real), np.stack(synthetic)),
            "obedience": summarize_obedience(before, pairs),
        }
        write_json(self.folder / "metrics.json", _finite(result))
        write_csv(self.folder / "per_subject.csv", own)
        write_csv(self.folder / "per_pair.csv", pairs)
        print(table(result), f"\n\nMade in {self.folder}:\n  metrics.json, per_subject.csv, per_pair.csv", flush=True)
        return result

    @torch.no_grad()
    def synthesize(self, subject: Mapping[str, Any], label: torch.Tensor) -> np.ndarray:
        """The generator's image `(4, X, Y, Z)` of tumor ``label`` `(1, X, Y, Z)` in the subject's brain."""
        condition = self.encode(self.semantic({**subject, "moved": label}))["condition"]
        return as_array(self.inferer(condition.as_tensor()[None].to(self.device), self.network)[0].cpu())

    def fidelity(self, subject: Mapping[str, Any], fake: np.ndarray) -> list[dict[str, Any]]:
        """One row a region and sequence: MAE, PSNR and SSIM of ``fake`` against the subject's MRI."""
        truth = as_array(subject["image"])
        brain, tumor = (torch.from_numpy(as_array(subject[key])[0] > 0) for key in ("brain", "label"))
        found = fidelity(torch.from_numpy(fake), torch.from_numpy(truth), {"brain": brain, "tumor": brain & tumor})
        return [
            {"subject": subject["subject"], "region": region, "sequence": name}
            | {measure: float(values[measure][channel]) for measure in MEASURES}
            for region, values in found.items()
            for channel, name in enumerate(SEQUENCES)
        ]

    def own_contrast(self, subject: Mapping[str, Any], image: np.ndarray) -> float:
        """t1ce contrast of the subject's own enhancing part in ``image`` `(4, X, Y, Z)`."""
        label, brain, spacing = self.geometry(subject)
        return contrast(image[T1CE], label == ENHANCING, shell(label > 0, brain, spacing))

    def move_tumors(self) -> list[dict[str, Any]]:
        """One row a pair: contrasts at the new place, and at the old place with and without its tumor.

        Pairs that keep less of the tumor than ``min_kept``, and would not be synthesized, are skipped.
        """
        rows: list[dict[str, Any]] = []
        if len(self.subjects) < 2:
            return rows
        for recipient, donor in ordered_pairs(len(self.subjects), self.seed):
            if len(rows) == self.max_pairs:
                break
            row = self.move(self.subjects[recipient], self.subjects[donor])
            rows += [row] if row else []
        return rows

    def move(self, subject: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[str, Any] | None:
        """The donor's tumor in the subject's brain, in place of its own; None where too little is kept."""
        old, brain, spacing = self.geometry(subject)
        giver = as_array(donor["label"])[0], as_array(donor["label"].affine), as_array(donor["brain"])[0] > 0
        new, kept = transplant(*giver, brain, as_array(subject["brain"].affine), self.settings["align"])
        if kept < self.settings["min_kept"] or not new.any():
            return None
        label = MetaTensor(torch.from_numpy(new[None]), affine=subject["brain"].affine)
        moved, still = self.synthesize(subject, label)[T1CE], self.own_t1ce[subject["subject"]]
        healthy = brain & (old == 0) & (new == 0)
        left = (old == ENHANCING) & (new == 0)
        at_new, at_old = shell(new > 0, healthy, spacing), shell(old > 0, healthy, spacing)
        return {
            "recipient": subject["subject"],
            "donor": donor["subject"],
            "kept": kept,
            "new_place": contrast(moved, new == ENHANCING, at_new),
            "new_place_without": contrast(still, (new == ENHANCING) & (old == 0), at_new),
            "old_place": contrast(moved, left, at_old),
            "old_place_with": contrast(still, left, at_old),
        }

    def geometry(self, subject: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label `(X, Y, Z)`, brain mask and mm a voxel."""
        affine = as_array(subject["brain"].affine)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        return as_array(subject["label"])[0], as_array(subject["brain"])[0] > 0, spacing


def summarize_fidelity(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sd over subjects, by region, sequence and measure."""
    rows = list(rows)
    return {
        region: {
            name: {
                measure: mean_sd(r[measure] for r in rows if r["region"] == region and r["sequence"] == name)
                for measure in MEASURES
            }
            for name in SEQUENCES
        }
        for region in ("brain", "tumor")
    }


def summarize_obedience(before: Iterable[tuple[float, float]], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether moved tumors appear at the place in the label and disappear from their old place.

    Args:
        before: for each subject the t1ce contrast of its own enhancing part: in its MRI, and synthesized.
        pairs: of :meth:`Evaluation.move_tumors`.

    Returns:
        ``real`` and ``own_label``, contrasts on unmoved tumors; ``right_sign``, the share of pairs whose contrast at
        the new place has the sign of the mean real one, of ``measured`` pairs; ``left``, the share of pairs whose
        contrast at the old place fell below half of what it was with the tumor there, of ``measured_left`` pairs.
        Shares are None where no pair could be measured.
    """
    before = list(before)
    real = mean_sd(r for r, _ in before)
    sign = math.copysign(1.0, real["mean"]) if real["mean"] else math.nan
    measured = [p for p in pairs if math.isfinite(p["new_place"] * sign)]
    left = [p for p in pairs if math.isfinite(p["old_place"] * sign) and p["old_place_with"] * sign > 0]
    return {
        "real": real,
        "own_label": mean_sd(f for _, f in before),
        "pairs": len(pairs),
        "right_sign": _share([p["new_place"] * sign > 0 for p in measured]),
        "measured": len(measured),
        "left": _share([p["old_place"] * sign < 0.5 * p["old_place_with"] * sign for p in left]),
        "measured_left": len(left),
    } | {
        name: mean_sd(p[name] for p in pairs)
        for name in ("new_place", "new_place_without", "old_place", "old_place_with")
    }


def table(result: Mapping[str, Any]) -> str:
    """The result as a few lines to read."""
    lines = [f"\n{len(result['subjects'])} held-out subjects, their own labels: mean (sd)"]
    lines.append(f"  {'':16}" + "".join(f"{name:>18}" for name in SEQUENCES))
    for region, by_sequence in result["fidelity"].items():
        for measure, unit in zip(MEASURES, ("", " dB", ""), strict=True):
            cells = "".join(f"{mean_sd_text(by_sequence[name][measure]):>18}" for name in SEQUENCES)
            lines.append(f"  {f'{region} {measure.upper()}{unit}':16}{cells}")
    spread, moved = result["diversity"], result["obedience"]
    lines += [
        "\nDiversity of the tumors beside the real ones (1: as diverse)",
        f"  spread of intensities over subjects   {_number(spread['sd_ratio'])}",
        f"  mean distance between two subjects    {_number(spread['distance']['ratio'])}",
        "\nObedience: t1ce contrast of the enhancing part against the brain around the tumor",
        f"  real subjects                         {mean_sd_text(moved['real'])}",
        f"  synthetic, own label                  {mean_sd_text(moved['own_label'])}",
        f"  moved tumor, new place               {mean_sd_text(moved['new_place'])}",
        f"  the same place without it             {mean_sd_text(moved['new_place_without'])}",
        f"  moved tumor, old place               {mean_sd_text(moved['old_place'])}",
        f"  the same place with it                {mean_sd_text(moved['old_place_with'])}",
        f"  the sign of the real contrast in      {_percent(moved['right_sign'])} of {moved['measured']} pairs",
        f"  the old place at below half in        {_percent(moved['left'])} of {moved['measured_left']} pairs",
    ]
    if not moved["pairs"]:
        lines.append("  (no pair of held-out subjects to move a tumor between)")
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _finite(content: Any) -> Any:
    """``content`` with null for what JSON cannot say (an infinite PSNR)."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)
