"""Lesions of phantom breasts: type, position, appearance and enhancement.

Shape, margin, inner structure and time curve follow the BI-RADS lexicon for MRI. The frequency of each curve is Kuhl's
in 266 lesions (Radiology 211, 101-110, 1999). Sizes are chosen so that a lesion crosses as many slices as in
Haarburger's data (2.4 if benign, 3.3 if malignant). Neither appearance nor curve alone reveals the class: some cancers
are round and smooth, and some benign lesions wash out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrsynth.phantom.breast_anatomy import Anatomy
from mrsynth.phantom.fields import Array, NoiseVolume, smoothstep

BENIGN, MALIGNANT = "benign", "malignant"

CURVES = ("persistent", "plateau", "wash-out")
CURVE_SHARES = {BENIGN: (0.83, 0.115, 0.055), MALIGNANT: (0.09, 0.335, 0.575)}

KINDS = {
    BENIGN: {"fibroadenoma": 0.62, "lymph node": 0.08, "focus": 0.20, "non-mass": 0.10},
    MALIGNANT: {"spiculated": 0.50, "irregular": 0.22, "smooth": 0.13, "non-mass": 0.15},
}
"""Share of each kind; a malignant smooth mass resembles a fibroadenoma."""

DIAMETER_MM = {BENIGN: (9.5, 0.38, 5.0, 30.0), MALIGNANT: (13.0, 0.45, 6.0, 40.0)}
"""Median in mm, standard deviation of the logarithm, minimum and maximum."""

PATIENTS = {"none": 0.12, BENIGN: 0.36, MALIGNANT: 0.52}
"""Share of subjects by their worst finding."""


@dataclass(frozen=True)
class LesionPlan:
    """The plan of one lesion.

    Attributes:
        type: ``benign`` or ``malignant``.
        kind: see :data:`KINDS`.
        curve: see :data:`CURVES`.
        diameter: diameter in mm.
        place: selects one of the possible positions, in [0, 1).
        seed: seed of shape and texture.
    """

    type: str
    kind: str
    curve: str
    diameter: float
    place: float
    seed: int


def draw_plans(rng: np.random.Generator, index: int, seed: int) -> list[LesionPlan]:
    """The lesions of one subject: none, or one to three.

    The worst finding follows a golden-ratio sequence over ``index``, so that even a small cohort has all kinds.
    """
    start = np.random.default_rng([seed, 2**31]).uniform()
    turn = (start + index * (5**0.5 - 1) / 2) % 1
    worst = list(PATIENTS)[int(np.searchsorted(np.cumsum(list(PATIENTS.values())), turn, side="right"))]
    if worst == "none":
        return []
    count = int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
    types = [worst] + [MALIGNANT if worst == MALIGNANT and rng.uniform() < 0.6 else BENIGN for _ in range(count - 1)]
    return [_plan(rng, name) for name in types]


def _plan(rng: np.random.Generator, name: str) -> LesionPlan:
    kind = str(rng.choice(list(KINDS[name]), p=list(KINDS[name].values())))
    curve = str(rng.choice(CURVES, p=CURVE_SHARES[name]))
    median, spread, least, most = DIAMETER_MM[name]
    diameter = float(np.clip(median * np.exp(rng.normal(0, spread)), least, most))
    if kind == "focus":
        diameter = float(rng.uniform(5, 7))
    elif kind == "lymph node":  # drains fast, whatever benign lesions do as a rule
        diameter, curve = float(rng.uniform(6, 11)), str(rng.choice(CURVES[1:]))
    elif kind == "non-mass":
        diameter = min(1.5 * diameter, most)
    return LesionPlan(name, kind, curve, diameter, float(rng.uniform()), int(rng.integers(2**63)))


def places(anatomy: Anatomy, plans: list[LesionPlan]) -> list[Array]:
    """The center of each lesion, ``(3,)`` in mm: mostly in glandular tissue, never outside the breast."""
    chosen: list[Array] = []
    at, depth, before, level = anatomy.candidates
    for number, plan in enumerate(plans):
        radius = plan.diameter / 2
        room = np.minimum(depth - radius - 4, before - radius - 3) - np.maximum(np.abs(at[2]) - 60 + radius, 0)
        for other, center in zip(plans[:number], chosen, strict=True):
            away = np.sqrt(((at - center[:, None]) ** 2).sum(0))
            room = np.minimum(room, away - radius - other.diameter / 2 - 8)
        fits = np.flatnonzero(room > 0) if (room > 0).any() else np.flatnonzero(room == room.max())
        weight = np.exp(np.clip(level[fits], -4, 0.5))
        if plan.kind == "lymph node":  # in the fat, high and lateral
            weight = np.exp(-np.clip(level[fits], -2, 2) + 0.03 * at[2, fits] + 0.03 * np.abs(at[0, fits]))
        ranked = np.searchsorted(np.cumsum(weight), plan.place * weight.sum())
        chosen.append(at[:, fits[min(int(ranked), len(fits) - 1)]])
    return chosen


class Lesion:
    """One lesion at its position.

    Args:
        plan: its plan.
        center: its position ``(3,)``.
        nipple: nipple of its breast, towards which a non-mass lesion extends.
    """

    def __init__(self, plan: LesionPlan, center: Array, nipple: Array) -> None:
        self.plan, self.center = plan, center.astype(np.float32)
        rng = np.random.default_rng(plan.seed)
        self.noise = NoiseVolume(rng, 1.0, 48)
        self.offset = rng.uniform(0, 8, (4, 3)).astype(np.float32)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        spread = {"fibroadenoma": 0.16, "lymph node": 0.12, "focus": 0.06, "smooth": 0.10}.get(plan.kind, 0.15)
        stretch = np.exp(rng.normal(0, spread, 3))
        self.turn = (turn / (stretch / stretch.prod() ** (1 / 3))).T.astype(np.float32)
        self.values = self._draw_values(rng)
        towards = nipple - center
        towards = towards / np.linalg.norm(towards)
        steps = np.linspace(-0.5, 0.5, 6)[:, None] * plan.diameter
        wander = rng.normal(0, 0.11 * plan.diameter, (6, 3))
        self.beads = (steps * towards + wander).astype(np.float32)
        self.bead_radii = (plan.diameter * rng.uniform(0.15, 0.24, 6)).astype(np.float32)
        self.hilum = (turn[0] * plan.diameter * 0.27).astype(np.float32)

    @property
    def reach(self) -> float:
        """Greatest distance of any part of the lesion from its center, in mm."""
        return 1.3 * self.plan.diameter + 6

    def _draw_values(self, rng: np.random.Generator) -> dict[str, float]:
        """Signals of its brightest part; fat has 1."""
        plan = self.plan
        bright = {"fibroadenoma": 0.65, "lymph node": 1.0, "focus": 0.4}.get(plan.kind, 0.12)
        is_bright = plan.type == BENIGN and rng.uniform() < bright
        t2 = rng.uniform(0.80, 1.25) if is_bright else rng.uniform(0.42, 0.66)
        uptake = rng.uniform(0.65, 1.30) if plan.type == BENIGN else rng.uniform(0.85, 1.75)
        rim = plan.type == MALIGNANT and plan.kind != "non-mass" and rng.uniform() < 0.5
        return {
            "t2": t2,
            "t1": rng.uniform(0.38, 0.50),
            "uptake": uptake * (0.85 if plan.kind == "non-mass" else 1),
            "rim": rng.uniform(0.35, 0.7) if rim else 0.0,
            "necrosis": float(rim and plan.diameter > 16 and rng.uniform() < 0.5),
            "septa": float(plan.kind == "fibroadenoma" and plan.diameter > 9 and rng.uniform() < 0.5),
            "texture": 0.05 if plan.type == BENIGN else rng.uniform(0.10, 0.22),
            "early": rng.uniform(0.10, 0.28),
            "slope": rng.uniform(-0.03, 0.05),
            "loss": rng.uniform(0.36, 0.50),
        }

    def curve(self, seconds: Array) -> Array:
        """Enhancement at times after the contrast agent. Its maximum is 1; a persistent curve has it at 280 s."""
        value, seconds = self.values, np.asarray(seconds, dtype=np.float64)
        if self.plan.curve == "persistent":
            rise = [
                value["early"] * (1 - np.exp(-time / 35)) + (1 - value["early"]) * (1 - np.exp(-time / 260))
                for time in (seconds, 280.0)
            ]
            return rise[0] / rise[1]
        wash_in = 1 - np.exp(-seconds / 28)
        if self.plan.curve == "plateau":
            return wash_in * (1 + value["slope"] * (seconds - 140) / 140)
        return wash_in * (1 - value["loss"] * smoothstep((seconds - 50) / 260))

    def level(self, at: Array) -> tuple[Array, Array]:
        """Approximate distance in mm of points ``(3, N)`` from the margin, negative inside, without and with
        spicules."""
        plan, radius = self.plan, self.plan.diameter / 2
        arm = at - self.center[:, None]
        if plan.kind == "non-mass":
            rough = 0.09 * plan.diameter * self.noise(arm / (0.30 * plan.diameter) + self.offset[0][:, None])
            beads = [
                np.sqrt(((arm - bead[:, None]) ** 2).sum(0)) - size
                for bead, size in zip(self.beads, self.bead_radii, strict=True)
            ]
            level = np.minimum.reduce(beads) + rough
            return level, level
        arm = self.turn @ arm
        distance = np.sqrt((arm * arm).sum(0)) + np.float32(1e-3)
        direction = arm / distance
        lobes = self.noise(0.55 * direction + self.offset[0][:, None])
        bumps = {"spiculated": 0.10, "irregular": 0.14, "focus": 0.03, "lymph node": 0.03}.get(plan.kind, 0.06)
        level = distance - radius * (1 + bumps * lobes)
        if plan.kind in ("spiculated", "irregular"):
            level = level + 0.10 * radius * self.noise(arm / (0.55 * radius + 2) + self.offset[1][:, None])
        if plan.kind != "spiculated":
            return level, level
        spikes = np.maximum(self.noise(2.1 * direction + self.offset[2][:, None]) - 0.75, 0)
        return level, level - np.minimum(spikes * (0.5 * radius + 4), 9)

    def paint(self, at: Array, times: Sequence[float], hilum: Array) -> tuple[Array, Array, Array]:
        """The lesion at points ``(3, N)``.

        Args:
            at: the points.
            times: times of the images after contrast, in seconds.
            hilum: the seven numbers of the fat inside a lymph node.

        Returns:
            The share of each point that counts for the outline, ``(N,)``; the visible share, ``(N,)``; and the seven
            signals ``(7, N)`` in the order of :mod:`~mrsynth.phantom.breast_contrast`.
        """
        value, radius = self.values, self.plan.diameter / 2
        body, spiky = self.level(at)
        within = smoothstep(0.5 - body / 1.2)
        shown = smoothstep(0.5 - spiky / 1.2)
        grain = self.noise((at - self.center[:, None]) / 5.0 + self.offset[3][:, None])
        uptake = value["uptake"] * (1 + value["texture"] * grain)
        core = smoothstep((-body / radius - 0.25) / 0.35)
        uptake = uptake * (1 - value["rim"] * core)
        dead = value["necrosis"] * smoothstep((-body / radius - 0.45) / 0.25)
        uptake = uptake * (1 - 0.85 * dead)
        t2 = value["t2"] * (1 + 0.6 * value["texture"] * grain) + 0.6 * dead
        if value["septa"]:
            sheet = np.abs(self.noise((at - self.center[:, None]) / (1.4 * radius) + self.offset[1][:, None]))
            uptake = uptake * (1 - 0.75 * smoothstep((0.22 - sheet) / 0.14))
        water = np.full(within.shape, value["t1"], dtype=np.float32)
        posts = [water * (1 + uptake * share) for share in self.curve(np.array(times))]
        signals = np.stack([t2, np.zeros_like(water), water, *posts]).astype(np.float32)
        if self.plan.kind == "lymph node":
            away = np.sqrt(((at - (self.center + self.hilum)[:, None]) ** 2).sum(0))
            signals += smoothstep((0.42 * radius - away) / 1.2 + 0.5) * (hilum[:, None] - signals)
        return within, shown, signals
