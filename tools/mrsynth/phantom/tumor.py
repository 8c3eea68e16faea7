"""The glioma of a phantom brain: necrotic core, enhancing rim, edema along white matter, and mass effect.

Volumes are drawn first and met exactly: a compartment consists of the voxels with the lowest values of a *level*
function, as many as its volume requires. The core's level is the distance from one or more lobes plus noise of several
wavelengths. The level of edema is the arrival time of a front that starts at the core and moves fast in white matter,
slowly in gray matter, and hardly in CSF.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.conventions import CORE, EDEMA, ENHANCING
from mrsynth.phantom.anatomy import Anatomy, Brain, cerebellum_share, load_template
from mrsynth.phantom.fields import Array, NoiseVolume, smoothstep

TUMOR_ML = (34.0, 200.0)
"""Range of the volume of whole tumors, slightly inside the 30-231 ml measured in real ones."""

FRONT_STEP = 3
"""Voxel size, in fine voxels, of the grid on which the front of the edema is computed."""


@dataclass(frozen=True)
class TumorPlan:
    """The plan of a tumor, drawn before anything is computed.

    Attributes:
        kind: ``ring`` (necrotic core in an enhancing rim), ``solid`` (mostly enhancing) or ``infiltrative``
            (mostly non-enhancing).
        whole_ml: volume of all three compartments.
        core_share: volume of core and enhancing part over the whole.
        enhancing_share: enhancing part over core and enhancing part.
        lobes: offsets in units of the core's radius, ``(n, 3)``; the first is zero.
        lobe_radii: ``(n,)`` in the same units.
        stretch: ratios of the half axes ``(3,)``, with product 1, along the columns of ``turn``.
        turn: rotation, ``(3, 3)``.
        mass: mass effect: displacement at the edge of the core divided by the radius of the core.
        place: selects one of the possible centers, in [0, 1).
        seed: seed of the noise.
    """

    kind: str
    whole_ml: float
    core_share: float
    enhancing_share: float
    lobes: Array
    lobe_radii: Array
    stretch: Array
    turn: Array
    mass: float
    place: float
    seed: int

    @property
    def core_radius(self) -> float:
        """Radius in mm of a ball with the volume of the core."""
        return float((3000 * self.whole_ml * self.core_share / (4 * np.pi)) ** (1 / 3))


def draw_plan(rng: np.random.Generator) -> TumorPlan:
    """Draw one tumor. Two thirds are rings, the others solid or infiltrative; one third has several lobes."""
    kind = str(rng.choice(["ring", "solid", "infiltrative"], p=[0.66, 0.14, 0.2]))
    low, high = np.log(TUMOR_ML)
    whole = float(np.exp(rng.uniform(low, high)))
    core = float(rng.uniform(0.2, 0.6) if kind != "infiltrative" else rng.uniform(0.3, 0.7))
    core = min(core, 85 / whole)
    enhancing = {"ring": (0.3, 0.62), "solid": (0.75, 0.92), "infiltrative": (0.04, 0.2)}[kind]
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
    direction = rng.normal(size=(3, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    lobes = direction * rng.uniform(0.7, 1.15, (3, 1))
    lobes[0] = 0
    stretch = np.exp(rng.normal(0, 0.17, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return TumorPlan(
        kind=kind,
        whole_ml=whole,
        core_share=core,
        enhancing_share=float(rng.uniform(*enhancing)),
        lobes=lobes[:count],
        lobe_radii=np.array([1.0, *rng.uniform(0.45, 0.8, 2)])[:count],
        stretch=stretch / stretch.prod() ** (1 / 3),
        turn=turn,
        mass=float(rng.uniform(0.22, 0.5) * (0.7 if kind == "infiltrative" else 1.0)),
        place=float(rng.uniform()),
        seed=int(rng.integers(2**63)),
    )


@dataclass(frozen=True)
class Tumor:
    """One tumor in one brain, on the N fine voxels of the brain.

    Attributes:
        label: uint8 ``(N,)``, values 0, 1, 2, 4.
        necrosis, enhancing, edema: visible share of each in the image, float32 ``(N,)`` in [0, 1].
        texture: two noise fields of unit variance, ``(2, N)``, coarse and fine, for inhomogeneous signal.
        cystic: whether the core is necrotic or fluid; otherwise it is living tissue that does not enhance.
    """

    label: Array
    necrosis: Array
    enhancing: Array
    edema: Array
    texture: Array
    cystic: bool


def choose_center(anatomy: Anatomy, plan: TumorPlan) -> Array:
    """Head position ``(3,)`` of the core's center: in cerebral white matter, deep enough for most of the core."""
    every = slice(None, None, 97)
    at, head, depth = anatomy.undisturbed[:, every], anatomy.head[:, every], anatomy.depth[every]
    white = load_template().sample(load_template().white, at)
    margin = min(0.75 * plan.core_radius, 26)
    fits = (white > 0.5) & (depth > margin) & (np.abs(at[0]) > max(13, 0.6 * plan.core_radius)) & (at[2] > -14)
    fits &= (at[1] > -85) & (at[1] < 52)
    # the deeper, the more such voxels: favor the shallow ones a little
    if not fits.any():
        fits = depth == depth.max()
    candidates = np.flatnonzero(fits)
    weight = 1 / (6 + depth[candidates] - margin)
    ranked = np.searchsorted(np.cumsum(weight), plan.place * weight.sum())
    return head[:, candidates[min(ranked, len(candidates) - 1)]]


def push(anatomy: Anatomy, plan: TumorPlan, center: Array) -> tuple[Array, Array]:
    """Mass effect of a core that grew at ``center``.

    Returns:
        The displacement ``(3, N)`` in head mm that brought the tissue to each voxel, none at the skull, and the
        swelling ``(N,)`` in [0, 1] around the tumor.
    """
    arm = anatomy.head - center[:, None].astype(np.float32)
    distance = np.sqrt((arm * arm).sum(0)) + 1e-3
    radius = np.float32(plan.core_radius)
    reach = np.float32(26.0)
    beyond = np.maximum(distance - radius, 0)
    amount = plan.mass * np.where(distance < radius, distance, radius * np.exp(-beyond / reach))
    amount = amount * smoothstep(anatomy.depth / 16)
    return (arm * (amount / distance)).astype(np.float32), np.exp(-beyond / 14).astype(np.float32)


def grow(anatomy: Anatomy, brain: Brain, plan: TumorPlan, center: Array) -> Tumor:
    """Place the planned tumor in a brain whose tissue has been displaced."""
    rng = np.random.default_rng(plan.seed)
    wide, middle, fine, inner, grain = (NoiseVolume(rng, length, 64) for length in (44.0, 20.0, 8.0, 14.0, 5.0))
    core_level = _core_level(brain, plan, center, (wide, middle, fine))
    core_voxels = int(1000 * plan.whole_ml * plan.core_share)
    is_core, core_edge = _lowest(core_level, core_voxels)

    near = np.flatnonzero(core_level < core_edge + 4)
    at = brain.head[:, near]
    depth = core_edge - core_level[near]  # mm below the core's surface, about
    rim_level, enhancing_edge = _rim_level(plan, at, depth, middle, inner, fine, is_core[near])
    shows_core = smoothstep(depth / 1.6 + 0.5)
    shows_rim = smoothstep((enhancing_edge - rim_level) / 1.4 + 0.5)
    enhancing = np.zeros_like(core_level)
    necrosis = np.zeros_like(core_level)
    enhancing[near] = shows_core * shows_rim
    necrosis[near] = shows_core * (1 - shows_rim)

    arrival = _arrival(brain, is_core, wide)
    edema_voxels = int(1000 * plan.whole_ml * (1 - plan.core_share))
    is_edema, edema_edge = _lowest(np.where(is_core, np.inf, arrival), edema_voxels)
    edema = smoothstep((edema_edge - arrival) / 5 + 0.5)

    label = np.zeros(len(core_level), dtype=np.uint8)
    label[is_edema] = EDEMA
    label[near[is_core[near]]] = CORE
    label[near[is_core[near] & (rim_level <= enhancing_edge)]] = ENHANCING
    texture = np.zeros((2, len(label)), dtype=np.float32)
    shown = np.flatnonzero((edema > 0) | (core_level < core_edge + 4))
    texture[:, shown] = np.stack([inner(brain.head[:, shown]), grain(brain.head[:, shown])])
    return Tumor(label, necrosis, enhancing, edema.astype(np.float32), texture, plan.kind != "infiltrative")


def _core_level(brain: Brain, plan: TumorPlan, center: Array, noises: tuple[NoiseVolume, ...]) -> Array:
    """Distance in mm from the lobes, plus noise; large far from the tumor and where no core grows."""
    radius = plan.core_radius
    level = np.full(brain.head.shape[1], 1e3, dtype=np.float32)
    arm = brain.head - center[:, None].astype(np.float32)
    squared = (arm * arm).sum(0)
    near = np.flatnonzero(squared < (3.2 * radius + 8) ** 2)
    place = plan.turn.astype(np.float32).T
    arm = np.stack([sum(place[r, c] * arm[c, near] for c in range(3)) for r in range(3)])
    arm /= (plan.stretch * radius).astype(np.float32)[:, None]
    lobes = []
    for offset, size in zip(plan.lobes, plan.lobe_radii, strict=True):
        away = arm - offset.astype(np.float32)[:, None]
        lobes.append(np.sqrt((away * away).sum(0)) + np.float32(1 - size))
    sharpness = np.float32(7)
    distance = -np.log(sum(np.exp(-sharpness * lobe) for lobe in lobes)) / sharpness * np.float32(radius)
    at = brain.head[:, near]
    for noise, amplitude in zip(noises, (0.16 * radius, 0.09 * radius + 0.5, 0.8), strict=True):
        distance = distance + np.float32(amplitude) * noise(at)
    # CSF is not invaded, gray matter less than white; falx and tentorium keep a core on its side
    side = np.sign(brain.template[0, near[np.argmin(squared[near])]])
    across = smoothstep((-side * brain.template[0, near] - 1) / 4)
    tentorium = cerebellum_share(brain.template[:, near])
    distance += 8 * brain.csf[near] + 1.5 * brain.gray[near] + 9 * np.maximum(across, tentorium)
    level[near] = distance
    return level


def _rim_level(
    plan: TumorPlan,
    at: Array,
    depth: Array,
    wide: NoiseVolume,
    inner: NoiseVolume,
    fine: NoiseVolume,
    is_core: Array,
) -> tuple[Array, float]:
    """Level whose lowest part enhances: depth below the surface for a rim, scattered patches otherwise."""
    radius = plan.core_radius
    if plan.kind == "infiltrative":
        level = -5 * wide(at) - 1.5 * inner(at) + 0.1 * depth
    else:
        level = depth + 0.10 * radius * (inner(at) + wide(at)) + 0.8 * fine(at)
    return level, _lowest(np.where(is_core, level, np.inf), int(plan.enhancing_share * is_core.sum()))[1]


def _arrival(brain: Brain, is_core: Array, noise: NoiseVolume) -> Array:
    """Arrival time of a front from the core at each voxel, in mm of white matter; ``(N,)``."""
    ease = 1.0 * brain.white + 0.16 * brain.gray + 0.03 * brain.csf
    ease *= 1 - 0.95 * cerebellum_share(brain.template)
    shape = brain.inside.shape
    coarse = tuple(n // FRONT_STEP for n in shape)

    def block(values: Array) -> Array:
        volume = np.zeros(shape, dtype=np.float32)
        volume[brain.inside] = values
        blocks = volume.reshape(coarse[0], FRONT_STEP, coarse[1], FRONT_STEP, coarse[2], FRONT_STEP)
        return blocks.mean(axis=(1, 3, 5))

    # edema prefers some directions over others
    cells = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) * FRONT_STEP for n in coarse], indexing="ij"))
    whim = np.exp(0.45 * noise(cells.reshape(3, -1) + brain.low[:, None])).reshape(coarse)
    speed = sitk.GetImageFromArray(np.maximum(block(ease) * whim, 1e-3).astype(np.float32))
    seeds = np.argwhere(block(is_core.astype(np.float32)) > 0.5)
    if len(seeds) == 0:
        seeds = np.argwhere(block(is_core.astype(np.float32)) > 0)
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([[int(k), int(j), int(i)] for i, j, k in seeds])
    march.SetStoppingValue(60.0)
    time = np.minimum(sitk.GetArrayFromImage(march.Execute(speed)), 80.0).astype(np.float32) * FRONT_STEP
    where = (np.argwhere(brain.inside).T - (FRONT_STEP - 1) / 2) / FRONT_STEP
    arrival = ndimage.map_coordinates(time, where, order=1, mode="nearest", prefilter=False)
    return arrival + 10 * (1 - brain.white) + 10 * brain.csf


def _lowest(level: Array, count: int) -> tuple[Array, float]:
    """Mask of the ``count`` voxels with the lowest ``level``, and the level at their edge."""
    count = min(max(count, 1), int(np.isfinite(level).sum()))
    edge = float(np.partition(level, count - 1)[count - 1])
    return level <= edge, edge
