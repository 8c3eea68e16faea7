"""The anatomy of a phantom breast MRI in prone position: thorax, two breasts, and the tissue in them.

Positions are in mm in an LPS frame: x points to the left of the body, y to the back, z to the head. y is 0 at the skin
over the sternum, x at the midline, z in the middle of the slices. All shapes are functions of position, so the same
draw gives the same anatomy on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrsynth.checks import whole_number
from mrsynth.phantom.fields import Array, NoiseVolume, smooth_field, smoothstep

FOV_MM = 332.8
"""Edge of the square field of view: 512 pixels of 0.65 mm, 256 of 1.3 mm."""

SLICES, THICKNESS = 32, 4.5
EXTENT = (FOV_MM, FOV_MM, SLICES * THICKNESS)
FRONT_MM = 18.0
"""Air in front of the foremost nipple, in mm."""

LEAST_MATRIX, MOST_MATRIX = 64, 512

TISSUES = ("air", "fat", "muscle", "lung", "cortex", "marrow", "cartilage", "heart", "blood", "liver", "fluid")
AIR, FAT, MUSCLE, LUNG, CORTEX, MARROW, CARTILAGE, HEART, BLOOD, LIVER, FLUID = range(len(TISSUES))

DENSITIES = ((0.04, 0.09), (0.09, 0.20), (0.20, 0.36), (0.36, 0.55))
"""Share of glandular tissue by density class, a to d. One subject in ten has a, and one in ten has d."""


@dataclass(frozen=True)
class Slab:
    """The grid of 32 axial slices.

    Args:
        matrix: pixels along each edge of a slice, 64 to 512.
        front: y of the outer edge of the first row.
        slices: number of slices, over the same length.

    Raises:
        UserError: a matrix out of range.
    """

    matrix: int
    front: float = 0.0
    slices: int = SLICES

    def __post_init__(self) -> None:
        whole_number("matrix", self.matrix, LEAST_MATRIX, MOST_MATRIX)

    @property
    def pixel(self) -> float:
        """Edge of a pixel in mm."""
        return FOV_MM / self.matrix

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.matrix, self.matrix, self.slices

    @property
    def within(self) -> list[Array]:
        """Distances of the voxels' centers from the field of view's corner along x, y, z, in mm."""
        return [
            (np.arange(count, dtype=np.float32) + 0.5) * np.float32(length / count)
            for count, length in zip(self.shape, EXTENT, strict=True)
        ]

    @property
    def axes(self) -> list[Array]:
        """Positions of the voxels' centers along x, y, z, in mm."""
        corner = (-FOV_MM / 2, self.front, -EXTENT[2] / 2)
        return [axis + np.float32(start) for axis, start in zip(self.within, corner, strict=True)]

    @property
    def affine(self) -> Array:
        """Voxel index to world mm (RAS+), 4x4; the voxels' axes are LPS."""
        size = np.array([self.pixel, self.pixel, EXTENT[2] / self.slices])
        affine = np.diag([*(size * (-1, -1, 1)), 1.0])
        affine[:3, 3] = (np.array([-FOV_MM / 2, self.front, -EXTENT[2] / 2]) + size / 2) * (-1, -1, 1)
        return affine


@dataclass(frozen=True)
class Breast:
    """One breast: half an ellipsoid on the chest, its axis ending in the nipple.

    Attributes:
        side: 1 left, -1 right.
        base: position on the chest wall, (3,).
        axis: unit vector towards the nipple; ``across`` and ``along`` (towards the head) complete it.
        radii: half widths across and along.
        reach: from the base to the nipple.
        power: of the ellipsoid, 2 is round, more is fuller.
    """

    side: int
    base: Array
    axis: Array
    across: Array
    along: Array
    radii: tuple[float, float]
    reach: float
    power: float

    @property
    def nipple(self) -> Array:
        return self.base + self.reach * self.axis

    def coordinates(self, at: Array) -> tuple[Array, Array, Array]:
        """Height over the base in reaches, and distances across and along in radii, of positions ``(3, ...)``."""
        arm = [at[i] - np.float32(self.base[i]) for i in range(3)]
        height, across, along = (
            sum(np.float32(unit[i]) * arm[i] for i in range(3)) for unit in (self.axis, self.across, self.along)
        )
        return height / self.reach, across / self.radii[0], along / self.radii[1]

    def outline(self, at: Array) -> Array:
        """Approximate distance in mm from the skin, negative inside."""
        height, across, along = self.coordinates(at)
        height = np.abs(np.where(height > 0, height, height * np.float32(1.4)))
        sideways = np.sqrt(across * across + along * along)
        rho = (sideways**self.power + height**self.power) ** (1 / self.power)
        arm = np.sqrt(sum((at[i] - np.float32(self.base[i])) ** 2 for i in range(3)))
        body = arm - arm / np.maximum(rho, 1e-3)  # along the ray from the base
        tip = self.nipple + 1.5 * self.axis
        nipple = np.sqrt(sum((at[i] - np.float32(tip[i])) ** 2 for i in range(3))) - 5
        return join(body, nipple, 4)


def join(first: Array, second: Array, width: float) -> Array:
    """Outline of the union of two bodies, with the crease between them filled over ``width`` mm."""
    bend = np.maximum(width - np.abs(first - second), 0)
    return np.minimum(first, second) - bend * bend * np.float32(0.25 / width)


class Anatomy:
    """The anatomy of one subject. ``rng`` draws everything."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.half_width, self.half_depth = float(rng.uniform(136, 152)), float(rng.uniform(92, 106))
        self.padding, self.skin = float(rng.uniform(6, 15)), float(rng.uniform(1.5, 2.3))
        self.muscle = float(rng.uniform(8, 14))
        size = float(np.clip(rng.normal(), -1.7, 1.9))
        self.breasts = [self._breast(rng, side, size) for side in (1, -1)]
        self.front = min(float(breast.nipple[1]) for breast in self.breasts) - FRONT_MM
        """y at which the field of view begins."""
        self.density_class = int(rng.choice(4, p=[0.1, 0.4, 0.4, 0.1]))
        self.density = float(rng.uniform(*DENSITIES[self.density_class]))
        self.ribs, self.heart = float(rng.uniform(0, 27)), rng.normal(0, 5, 3)
        self.warp_seeds = [int(seed) for seed in rng.integers(2**63, size=2)]
        self.noise = {
            name: NoiseVolume(rng, wavelength)
            for name, wavelength in (
                ("radial", 10.0), ("middle", 18.0), ("fine", 7.0), ("grain", 4.6), ("sheet", 26.0),
                ("vessel", 42.0), ("other_vessel", 42.0), ("patch", 34.0), ("lung", 11.0),
            )
        }  # fmt: skip
        count = int(rng.choice([0, 0, 0, 1, 2, 4]))
        self.cyst_places = [(float(rng.uniform()), float(rng.uniform(1.5, 5.5))) for _ in range(count)]
        self.threshold = 0.0
        self._settle()

    def _breast(self, rng: np.random.Generator, side: int, size: float) -> Breast:
        radii = (60 + 4 * size + rng.normal(0, 1.2), 60 + 4 * size + rng.normal(0, 2))
        reach = 80 + 16 * size + rng.normal(0, 2.5)
        x = side * (radii[0] + rng.uniform(12, 19))
        y = self.half_depth * (1 - (1 - (abs(x) / self.half_width) ** 2.5) ** 0.4) + self.padding
        tilt, lift = np.deg2rad(rng.normal(5, 3.5)), np.deg2rad(rng.normal(-2, 3))
        axis = np.array([side * np.sin(tilt) * np.cos(lift), -np.cos(tilt) * np.cos(lift), np.sin(lift)])
        across = np.array([np.cos(tilt), side * np.sin(tilt), 0.0])
        base, power = np.array([x, y, rng.normal(0, 4)]), float(rng.uniform(2.1, 2.7))
        return Breast(side, base, axis, across, np.cross(axis, across), radii, reach, power)

    def slab(self, matrix: int) -> Slab:
        """The grid on which the subject is imaged."""
        return Slab(matrix, self.front)

    def positions(self, slab: Slab) -> Array:
        """Position of each voxel in the undeformed anatomy, ``(3, X, Y, Z)``."""
        at = np.stack(np.meshgrid(*slab.axes, indexing="ij"))
        for seed, knot, amplitude in zip(self.warp_seeds, (60.0, 24.0), (2.8, 0.8), strict=True):
            at += smooth_field(np.random.default_rng(seed), slab.within, EXTENT, knot, 3) * np.float32(amplitude)
        return at

    def torso(self, at: Array) -> Array:
        """Approximate distance in mm from the surface of the torso under the breasts, negative inside."""
        x, y = np.abs(at[0]), at[1] - np.float32(self.half_depth)
        power = np.float32(2.5)
        rho = ((x / self.half_width) ** power + (np.abs(y) / self.half_depth) ** power) ** (1 / power)
        arm = np.sqrt(x * x + y * y)
        return arm - arm / np.maximum(rho, 1e-3)

    def outline(self, at: Array) -> tuple[Array, Array]:
        """Approximate distances from skin and torso, negative inside; ``at`` is a grid ``(3, X, ...)`` or points."""
        torso = self.torso(at)
        skin = torso
        for breast in self.breasts:
            skin = join(skin, breast.outline(at), 16)
        return skin, torso

    def _settle(self) -> None:
        """Find the threshold above which the parenchyma is glandular, and places for cysts, on a coarse grid."""
        at = self.positions(self.slab(96)).reshape(3, -1)
        skin, torso = self.outline(at)
        before = -self.under_fat(at, torso)
        mound = (skin < 0) & (before > 0) & (np.minimum(*[breast.outline(at) for breast in self.breasts]) < 0)
        at, depth, before = at[:, mound], -skin[mound], before[mound]
        level = self.level(at, depth, before)
        self.threshold = float(np.quantile(level, 1 - self.density))
        fits = np.flatnonzero((level > self.threshold) & (depth > 8) & (before > 8))
        self.cysts = [(at[:, fits[int(place * len(fits))]], radius) for place, radius in self.cyst_places if len(fits)]
        self.candidates = (at, depth, before, level - np.float32(self.threshold))

    def level(self, at: Array, depth: Array, before: Array) -> Array:
        """Level of each point ``(3, N)``, high where it is glandular: a cone to the nipple, with noise along ducts.

        Args:
            depth: below the skin in mm.
            before: in front of the pectoral muscle in mm.
        """
        level = np.full(depth.shape, -9, dtype=np.float32)
        for breast in self.breasts:
            mine = np.flatnonzero(np.sign(at[0]) == breast.side)
            here = at[:, mine]
            height, across, along = breast.coordinates(here)
            sideways = np.sqrt(across * across + along * along)
            cone = 1 - sideways / (0.92 * np.sqrt(np.clip(1.05 - height, 0, 1)) + 0.08)
            outer_upper = 0.22 * (breast.side * across + 0.7 * along)
            arm = here - breast.nipple[:, None].astype(np.float32)
            reach = np.sqrt((arm * arm).sum(0)) + 1
            streaks = self.noise["radial"](arm * (26 / reach + np.float32(0.22)) + 150 * breast.side)
            # the fat's lobules bulge into it, and it runs out along the sheets between them
            lobules = np.abs(self.noise["sheet"](here) + 0.25 * self.noise["fine"](here))
            rough = 0.32 * streaks - 0.75 * np.minimum(lobules, 1.6) + 0.30 * self.noise["middle"](here)
            under_skin = 5 * smoothstep(1 - (depth[mine] - 3.5) / 7) * smoothstep((reach - 10) / 14)
            level[mine] = 2.2 * cone + outer_upper + rough - under_skin - 5 * smoothstep(1 - (before[mine] - 2) / 7)
        return level

    def parenchyma(self, at: Array, depth: Array, before: Array, blur: Array) -> dict[str, Array]:
        """Shares of the tissues embedded in the fat in front of the chest muscles, each float32 ``(N,)`` in [0, 1].

        Args:
            at, depth, before: as for :meth:`level`.
            blur: mm over which ``depth`` varies within the slice's thickness, where the skin is cut aslant.
        """
        noise = self.noise
        level = self.level(at, depth, before)
        gland = smoothstep((level - self.threshold) / 0.5 + 0.5)
        gland *= 1 - 0.5 * smoothstep((noise["grain"](at) - 0.6) / 0.8) * smoothstep(1.6 - (level - self.threshold))
        sheets = np.abs(noise["sheet"](at) + 0.25 * noise["fine"](at))
        ligament = 0.6 * smoothstep((0.20 - sheets) / 0.14) * smoothstep((before - 3) / 6)
        ligament *= smoothstep((level - self.threshold + 4.5) / 3)
        tube = np.hypot(noise["vessel"](at), noise["other_vessel"](at))
        vessel = smoothstep((0.17 - tube) / 0.09) * smoothstep(noise["patch"](at) + 0.8) * smoothstep((depth - 3) / 2)
        skin = smoothstep((self.skin - depth) / blur + 0.5)
        nipple = np.zeros_like(gland)
        for breast in self.breasts:
            tip = (breast.nipple + 2 * breast.axis)[:, None].astype(np.float32)
            away = np.sqrt(((at - tip) ** 2).sum(0))
            nipple = np.maximum(nipple, smoothstep((7.5 - away) / 2))
            skin = np.maximum(skin, smoothstep((self.skin + 1.2 - depth) / blur + 0.5) * smoothstep((20 - away) / 3))
        cyst = np.zeros_like(gland)
        for center, radius in self.cysts:
            away = np.sqrt(((at - center[:, None]) ** 2).sum(0))
            cyst = np.maximum(cyst, smoothstep((radius - away) / 0.8 + 0.5))
        patch = smoothstep(0.5 + 0.4 * noise["patch"](at[::-1]) + 0.25 * noise["fine"](at))
        return {
            "muscle": smoothstep(0.5 - before), "body": smoothstep(depth / blur + 0.5),
            "gland": gland, "ligament": ligament, "vessel": vessel, "cyst": cyst, "skin": skin, "nipple": nipple,
            "patch": patch,
        }  # fmt: skip

    def under_fat(self, at: Array, torso: Array) -> Array:
        """Distance in mm below the fat that covers muscles and ribs, negative in it and in the breast.

        Args:
            at: points ``(3, N)``.
            torso: of :meth:`outline`.
        """
        front = self.half_depth - at[1]
        thin = 0.35 * smoothstep(1 - np.abs(at[0]) / 35) * smoothstep(front / 20)
        return -torso - np.float32(self.padding) * (1 + 0.7 * smoothstep(-front / 60)) * (1 - thin)

    def chest(self, at: Array, depth: Array) -> Array:
        """Labels of the tissues of the chest for points ``(3, N)`` at ``depth`` mm of :meth:`under_fat`."""
        x, y, z = at
        away, front = np.abs(x), self.half_depth - y  # front: positive before the torso's middle
        back = smoothstep(-front / 60)
        label = np.full(x.shape, FAT, dtype=np.uint8)
        muscle = self.muscle * smoothstep((away - 9) / 26) * (1 - 0.5 * smoothstep((away - 95) / 30)) + 1.5
        muscle = muscle + back * (14 + 14 * smoothstep(1 - away / 70))
        label[depth > 0] = MUSCLE
        wall = depth - muscle
        phase = (z - 0.45 * y + np.float32(self.ribs)) % 27 - 13.5
        rib = np.maximum(np.abs(phase) - 6, np.abs(wall - 5.5) - 4.2)
        label[rib < 0] = CORTEX
        label[rib < -1.4] = MARROW
        label[(rib < 0) & (away < 62) & (front > 0)] = CARTILAGE
        sternum = np.maximum(away - 17, np.abs(wall - 6) - 5.5)
        label[(sternum < 0) & (front > 0)] = CORTEX
        label[(sternum < -1.4) & (front > 0)] = MARROW
        cavity = wall - 11
        inside = np.flatnonzero(cavity > 0)
        label[inside] = self._organs(at[:, inside], front[inside])
        return label

    def _organs(self, at: Array, front: Array) -> Array:
        x, y, z = at
        label = np.full(x.shape, LUNG, dtype=np.uint8)
        label[self.noise["lung"](at) > 2.1] = BLOOD
        behind = self.half_depth * 2 - y  # from the back

        def ball(center: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
            return np.sqrt(sum(((at[i] - c) / r) ** 2 for i, (c, r) in enumerate(zip(center, radii, strict=True))))

        wall = self.padding + self.muscle + 12
        middle = 9 + 9 * np.cos(front / 20) + 0.1 * np.abs(z)
        label[np.abs(x - 5) < middle] = FAT
        dx, dy, dz = self.heart
        heart = (24 + dx, wall + 44 + dy * 0.4, -14 + dz)
        whole = ball(heart, (50, 40, 62))
        label[whole < 1.09] = FAT
        label[whole < 1] = HEART
        label[ball((heart[0] + 12, heart[1] + 8, heart[2] - 4), (25, 21, 44)) < 1] = BLOOD
        label[ball((heart[0] - 20, heart[1] - 9, heart[2] + 6), (23, 22, 44)) < 1] = BLOOD
        for center, radius in (((-14.0, wall + 40), 14.0), ((14.0, wall + 34), 13.0)):
            label[(np.hypot(x - center[0], y - center[1]) < radius) & (z > 34)] = BLOOD
        liver = ball((-52, self.half_depth, -116), (90, 84, 76 + dz))
        label[(liver < 1)] = LIVER
        spine = self.half_depth * 2 - 62
        near = np.hypot(x / 1.15, y - spine)
        label[(behind < 62) & (np.abs(x) < 46)] = MUSCLE
        label[near < 20] = CORTEX
        label[near < 18.4] = MARROW
        label[np.hypot(x, y - spine - 28) < 8.5] = FLUID
        label[np.hypot(x - 24, y - spine + 16) < 11] = BLOOD
        return label
