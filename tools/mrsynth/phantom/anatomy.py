"""The healthy anatomy of a phantom brain: the MNI152 tissue maps, deformed, with new gyri.

The maps are an average of 152 people, so their gyri are smooth. Where the maps are certain (ventricles, deep
nuclei, large sulci), they are used as they are. Where they are uncertain (the cortex), one anatomy is *drawn* from
them: a correlated random field decides the tissue of each point. Every tissue keeps its share, and the surfaces on
which the field is zero become sulci, with gray matter on both banks and white matter behind.

Positions are in mm in one of three spaces: *grid* (origin at the first voxel of the fine grid), *head* (MNI axes,
RAS+, centered on the subject) and *template* (MNI152 world coordinates).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.phantom.fields import Array, NoiseVolume, smooth_field, smoothstep
from mrsynth.phantom.grid import FINE_SHAPE

BRAIN_ML = (1285.0, 1715.0)
BRAIN_BOX_MM = ((129.5, 141.3), (163.0, 178.7), (131.0, 142.5))
"""Ranges from which subjects are drawn, slightly inside those of real subjects: 1,270-1,730 ml and
128-145 x 161-182 x 129-146 mm."""

ALIGNMENT = 12
"""The working box begins and ends at multiples of this number of fine voxels, which every spacing divides."""

FACE = np.array([-1.0, -1.0, 1.0], dtype=np.float32)
"""Direction of the grid's axes (LPS) in MNI's (RAS)."""


@dataclass(frozen=True)
class Template:
    """MNI152 maps, float32 on one grid: probabilities in [0, 1], ``depth`` in mm below the brain's surface, and
    ``cap``, which is 1 at the wall of the ventricles and falls with the distance from it."""

    gray: Array
    white: Array
    depth: Array
    vessels: Array
    cap: Array
    origin: Array
    center: Array
    size: Array

    def sample(self, volume: Array, points: Array, outside: float = 0.0) -> Array:
        """A map at template positions ``points`` (3, N)."""
        return ndimage.map_coordinates(
            volume, points - self.origin[:, None], order=1, mode="constant", cval=outside, prefilter=False
        )


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the maps that the nilearn package contains; nothing is downloaded."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

    gray_map, white_map = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    gray, white = gray_map.get_fdata(dtype=np.float32), white_map.get_fdata(dtype=np.float32)
    brain = load_mni152_brain_mask(resolution=1).get_fdata() > 0.5
    origin = gray_map.affine[:3, 3].astype(np.float32)
    depth = _distance_within(brain)
    depth = ndimage.gaussian_filter(depth, 0.7)
    where = np.argwhere(brain)
    low, high = where.min(0), where.max(0) + 1
    return Template(
        gray=gray,
        white=white,
        depth=depth,
        vessels=_vessels(depth, origin),
        cap=_caps(gray, white, depth),
        origin=origin,
        center=((low + high - 1) / 2 + origin).astype(np.float32),
        size=(high - low).astype(np.float32),
    )


def _caps(gray: Array, white: Array, depth: Array) -> Array:
    fluid = (gray + white < 0.5) & (depth > 22)
    return np.exp(np.minimum(_distance_within(fluid) - 0.5, 0) / 3)


def _distance_within(mask: Array) -> Array:
    """Distance in voxels from the surface of ``mask``, positive inside, negative outside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False)
    return sitk.GetArrayFromImage(distance) + np.float32(0.5)  # it calls the outermost voxels of the mask zero


# Large vessels as chains of points in MNI mm, with a radius. Right-sided ones are mirrored.
_VESSELS = (
    # basilar
    (1.4, False, [(0, -27, -50), (0, -16, -40), (0, -13.5, -30), (0, -13.5, -24)]),
    # posterior, middle and anterior cerebral
    (1.2, True, [(1, -14, -24), (10, -16, -22), (22, -26, -18), (24, -44, -8), (14, -64, 2)]),
    (1.4, True, [(10, 0, -26), (10, 4, -19), (18, 4, -18), (30, 4, -18), (40, 0, -14), (43, -8, -4), (42, -20, 8)]),
    (1.2, True, [(10, 4, -19), (3, 12, -18), (1.5, 30, -10), (1.5, 40, 4), (1.5, 32, 22), (1.5, 10, 34)]),
    # vein of Galen and straight sinus, internal cerebral veins, choroid plexus
    (1.5, False, [(0, -20, 10), (0, -36, 8), (0, -42, 6), (0, -56, 4), (0, -74, -2), (0, -92, -6)]),
    (1.0, True, [(3, -2, 13), (2.5, -18, 14), (1, -34, 9)]),
    (1.0, True, [(15, -6, 20), (22, -30, 14), (24, -40, 4), (19, -36, -6)]),
)


def _vessels(depth: Array, origin: Array) -> Array:
    tubes = np.zeros(depth.shape, dtype=np.float32)
    for radius, paired, chain in _VESSELS:
        for side in (1, -1) if paired else (1,):
            points = np.array(chain, dtype=float) * (side, 1, 1) - origin
            for start, end in pairwise(points):
                low = np.maximum(np.floor(np.minimum(start, end) - 4).astype(int), 0)
                high = np.ceil(np.maximum(start, end) + 5).astype(int)
                box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
                at = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), -1) - start
                along = np.clip(at @ (end - start) / ((end - start) @ (end - start)), 0, 1)
                distance = np.linalg.norm(at - along[..., None] * (end - start), axis=-1)
                view = tubes[box]
                np.maximum(view, smoothstep((radius + 0.6 - distance) / 1.2)[: view.shape[0]], out=view)
    # the superior sagittal sinus runs along the midline just under the surface
    x, y, z = (
        (np.arange(n, dtype=np.float32) + o).reshape(shape)
        for n, o, shape in zip(depth.shape, origin, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    sinus = smoothstep((4.0 - np.hypot(x, depth - 1)) / 1.5) * ((z > 5) | (y < -70))
    return np.maximum(tubes, sinus).astype(np.float32)


@dataclass(frozen=True)
class Brain:
    """Tissue of one subject at the fine points inside its brain.

    Attributes:
        low: first fine voxel of the working box, (3,) int, multiples of 12.
        inside: bool ``(x, y, z)``, the brain mask in the working box at 1 mm; N voxels are true.
        head, template: positions of those voxels, float32 ``(3, N)`` in mm.
        csf, gray, white: shares of tissue, float32 ``(N,)``, adding up to 1.
        vessel: share of blood, float32 ``(N,)`` in [0, 1], on top of the three.
        depth: mm below the surface of the brain, ``(N,)``.
        myelin: the template's smooth white-matter probability, ``(N,)``.
        cap: 1 at the wall of the ventricles, 0 away from it, ``(N,)``.
    """

    low: Array
    inside: Array
    head: Array
    template: Array
    csf: Array
    gray: Array
    white: Array
    vessel: Array
    depth: Array
    myelin: Array
    cap: Array


class Pose:
    """Position of a subject's brain, and its deformation from the template: affine and smooth.

    The affine is solved so that the bounding box of the brain has the drawn size. If the resulting volume is outside
    ``BRAIN_ML``, all three sides are scaled.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        template = load_template()
        fraction = np.clip(0.5 + rng.normal(0, 0.27) + rng.normal(0, 0.2, 3), 0, 1)
        self.box = np.array([low + f * (high - low) for f, (low, high) in zip(fraction, BRAIN_BOX_MM, strict=True)])
        angles = np.deg2rad(rng.normal(0, (2.0, 1.5, 1.5)))
        self.rotation = _rotation(angles)
        self.scale = self.box / template.size
        self.ventricles = float(rng.uniform(-0.35, 0.3))
        self.fields = rng.integers(2**63, size=3)
        floor = rng.choice([0, 0, 1, 2, 4, 8])
        self.position = np.array(
            [rng.normal(119.5, 1.5), rng.normal(127, 3), floor + self.box[2] / 2], dtype=np.float32
        )
        self._fit(foot=float(floor))

    def _fit(self, foot: float) -> None:
        """Solve scale and position so that the box on the grid has the drawn size and its lower end is at ``foot``."""
        template = load_template()
        axes = [np.arange(0, n, 2, dtype=np.float32) for n in FINE_SHAPE]
        shift = self._deformation(axes)
        for _ in range(2):
            head = self._head(axes)
            inside = template.sample(template.depth, self._template(head, shift), -9.0).reshape([len(a) for a in axes])
            inside = inside > 0
            extent = []
            for axis in range(3):
                line = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
                extent.append((2.0 * line[0], 2.0 * line[-1] + 1))
            size = np.array([b - a + 1 for a, b in extent])
            volume = inside.sum() * 8 / 1000
            aim = self.box.copy()
            if not BRAIN_ML[0] < volume * np.prod(aim / size) < BRAIN_ML[1]:
                wanted = np.clip(volume * np.prod(aim / size), BRAIN_ML[0] + 10, BRAIN_ML[1] - 10)
                aim *= (wanted / (volume * np.prod(aim / size))) ** (1 / 3)
            self.scale = self.scale * aim / size
            self.position[2] += foot + 0.5 - extent[2][0]

    def _deformation(self, axes: list[Array]) -> Array:
        """Displacement in head mm on a grid: ``(3, x, y, z)``."""
        extent = [float(n) for n in FINE_SHAPE]
        total = np.zeros(1, dtype=np.float32)
        for seed, knot, amplitude in zip(self.fields, (36.0, 18.0, 9.0), (2.3, 1.0, 0.5), strict=True):
            rng = np.random.default_rng(int(seed))
            total = total + smooth_field(rng, axes, extent, knot, 3) * np.float32(amplitude)
        return total

    def _head(self, axes: list[Array]) -> Array:
        grid = np.meshgrid(*[a - p for a, p in zip(axes, self.position, strict=True)], indexing="ij")
        return np.stack([g.ravel() for g in grid]).astype(np.float32) * FACE[:, None]

    def linear(self, vectors: Array) -> Array:
        """Head vectors (3, N), rotated and scaled into the template by the affine."""
        matrix = (np.diag(1 / self.scale) @ self.rotation).astype(np.float32)
        return np.stack([sum(matrix[r, c] * vectors[c] for c in range(3)) for r in range(3)])

    def _template(self, head: Array, displacement: Array) -> Array:
        """Template positions of ``head`` positions (3, N)."""
        template = load_template()
        at = self.linear(head + displacement.reshape(3, -1)) + template.center[:, None]
        # ventricles grow or shrink about the middle of the head
        away = at - np.array([0, -12, 14], dtype=np.float32)[:, None]
        pull = np.exp(-((away[0] / 26) ** 2 + (away[1] / 42) ** 2 + (away[2] / 24) ** 2))
        return at - away * (np.float32(self.ventricles) * pull)

    def points(self, axes: list[Array], which: Array | None = None) -> tuple[Array, Array]:
        """Head and template positions, each ``(3, N)``, of the grid spanned by ``axes`` in grid mm.

        ``which``: flat indices of the N points; by default all.
        """
        shift, head = self._deformation(axes).reshape(3, -1), self._head(axes)
        if which is not None:
            shift, head = shift[:, which], head[:, which]
        return head, self._template(head, shift)


def _rotation(angles: Array) -> Array:
    (a, b, c), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, a, -sa], [0, sa, a]])
    y = np.array([[b, 0, sb], [0, 1, 0], [-sb, 0, b]])
    z = np.array([[c, -sc, 0], [sc, c, 0], [0, 0, 1]])
    return x @ y @ z


class Anatomy:
    """One subject's brain in two steps: the position, drawn at once, and the tissue, after a tumor has displaced it.

    Args:
        rng: draws everything about the anatomy.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.pose = Pose(rng)
        self.atrophy = float(rng.uniform(0.9, 1.7))
        self.fold_noise = NoiseVolume(rng, wavelength=float(rng.uniform(19, 23)), size=96)
        self.edge_noise = NoiseVolume(rng, wavelength=14.0)
        self.vessel_noise = (NoiseVolume(rng, wavelength=30.0), NoiseVolume(rng, wavelength=30.0))
        self._place()

    def _place(self) -> None:
        """Find the working box, the mask in it, and both positions of every voxel inside."""
        template = load_template()
        every = [np.arange(0, n, 4, dtype=np.float32) for n in FINE_SHAPE]
        _, at = self.pose.points(every)
        rough = template.sample(template.depth, at, -9.0).reshape([len(a) for a in every]) > -8
        where = np.argwhere(rough)
        low = np.maximum((where.min(0) * 4) // ALIGNMENT, 0) * ALIGNMENT
        high = np.minimum(-((where.max(0) + 1) * -4 // ALIGNMENT) * ALIGNMENT, FINE_SHAPE)
        self.low = low
        axes = [np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True)]
        shape = [len(a) for a in axes]
        for axis in range(3):
            rough = rough.repeat(4, axis)
        near = np.flatnonzero(rough[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        head, at = self.pose.points(axes, near)
        depth = template.sample(template.depth, at, -9.0)
        keep = depth > -2
        near, head, at, depth = near[keep], head[:, keep], at[:, keep], depth[keep]
        # a brain extraction is never quite smooth: the surface wanders by about a millimeter
        edge = np.flatnonzero(depth < 2.5)
        depth[edge] += 0.6 * self.edge_noise(head[:, edge])
        mask = np.zeros(shape, dtype=bool)
        mask.ravel()[near[depth > 0]] = True
        parts, count = ndimage.label(mask)
        if count > 1:
            mask = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        # the deepest slice of the grid has no counterpart in BraTS's 155
        mask[:, :, max(0, FINE_SHAPE[2] - 1 - int(low[2])) :] = False
        keep = mask.ravel()[near]
        self.inside, self.head, self.undisturbed, self.depth = mask, head[:, keep], at[:, keep], depth[keep]

    def tissue(self, displacement: Array | None = None, swelling: Array | None = None) -> Brain:
        """The tissue at every voxel of the brain.

        Args:
            displacement: ``(3, N)`` mm in head axes, by which the tissue at each voxel was displaced.
            swelling: ``(N,)`` in [0, 1], the share by which sulci are closed.
        """
        template = load_template()
        at = self.undisturbed
        source = self.head
        if displacement is not None:
            at = at - self.pose.linear(displacement)
            source = source - displacement
        gray, white = template.sample(template.gray, at), template.sample(template.white, at)
        myelin = white.copy()
        csf = np.clip(1 - gray - white, 0, 1)
        deep, cerebellum = _deep(at), cerebellum_share(at)
        # the outermost millimeter is fluid in some places, cortex in others
        skin = np.flatnonzero(self.depth < 2.2)
        bare = smoothstep(self.vessel_noise[0](self.head[:, skin] * np.float32(0.6)) + 0.5)
        csf[skin] *= 1 - 0.8 * smoothstep((2.2 - self.depth[skin]) / 1.2) * bare
        csf *= np.float32(self.atrophy)
        if swelling is not None:
            csf *= 1 - 0.75 * swelling * (1 - deep)
        csf, gray, white = self._draw(at, csf, gray, white, deep, cerebellum)
        vessel = np.maximum(template.sample(template.vessels, at), self._thin_vessels(source, csf))
        cap = template.sample(template.cap, at)
        return Brain(self.low, self.inside, self.head, at, csf, gray, white, vessel, self.depth, myelin, cap)

    def _draw(
        self, at: Array, csf: Array, gray: Array, white: Array, deep: Array, cerebellum: Array
    ) -> tuple[Array, Array, Array]:
        # the surest tissue gains: an average's slopes become one brain's edges
        csf, gray, white = csf**1.7, gray**1.7, white**1.7
        total = csf + gray + white + 1e-6
        csf, white = csf / total, white / total
        # an average hides the narrow sulci of the convexity, and most of the cerebellum's
        shallow = smoothstep(1.4 - self.depth / 22) * (1 - deep) * (1 - 0.3 * cerebellum)
        csf += np.float32(0.10 * self.atrophy) * shallow * (1 - white) ** 2
        # folds run from the surface inwards: the field is stretched along the radius of each hemisphere
        side = np.sign(at[0])
        arm = np.stack([at[0] - 20 * side, at[1] + 18, at[2] - 14])
        radius = np.sqrt((arm * arm).sum(0)) + np.float32(1e-3)
        place = arm * (48 / radius + np.float32(0.35))
        place += cerebellum * (at * np.array([0.7, 1.6, 2.6], dtype=np.float32)[:, None] - place)
        share = np.abs(self.fold_noise(place + 150 * side))
        share = np.clip(share / 2.2, 0, 1) ** 0.9
        share = 1.5 * share / (0.5 + share)  # roughly uniform in [0, 1]
        width = np.float32(0.16)
        csf_drawn = smoothstep((csf - share) / width + 0.5 * smoothstep(csf / 0.2))
        white_drawn = smoothstep((share - (1 - white)) / width + 0.5)
        fold = (1 - deep) * (1 - 0.45 * cerebellum)
        csf = csf + fold * (csf_drawn - csf)
        white = white + fold * (np.minimum(white_drawn, 1 - csf_drawn) - white)
        white = np.minimum(white, 1 - csf)
        return csf, 1 - csf - white, white

    def _thin_vessels(self, source: Array, csf: Array) -> Array:
        """Fine curved threads where two fields are zero, in the subarachnoid space only."""
        first, second = (noise(source) for noise in self.vessel_noise)
        thread = np.sqrt(first * first + second * second)
        return smoothstep((0.30 - thread) / 0.16) * smoothstep((csf - 0.15) / 0.3) * smoothstep((9 - self.depth) / 3)


def _ellipsoid(at: Array, center: tuple[float, float, float], radii: tuple[float, float, float], soft: float) -> Array:
    """1 inside, 0 outside, ``soft`` the share of the radius over which it falls."""
    squared = sum(((at[a] - center[a]) / radii[a]) ** 2 for a in range(3))
    return smoothstep((1 + soft / 2 - np.sqrt(squared)) / soft)


def _deep(at: Array) -> Array:
    """Where the template is used unchanged: deep nuclei, ventricles, brain stem."""
    folded = np.stack([np.abs(at[0]), at[1], at[2]])
    nuclei = _ellipsoid(folded, (14, -6, 5), (23, 34, 24), 0.25)
    horns = _ellipsoid(folded, (20, -34, 10), (19, 26, 22), 0.25)
    stem = _ellipsoid(folded, (0, -26, -36), (20, 19, 34), 0.25)
    return np.maximum(np.maximum(nuclei, horns), stem).astype(np.float32)


def cerebellum_share(at: Array) -> Array:
    """1 in the cerebellum, 0 elsewhere, for template positions ``(3, N)``."""
    folded = np.stack([np.abs(at[0]), at[1], at[2]])
    return _ellipsoid(folded, (14, -66, -38), (44, 36, 26), 0.2).astype(np.float32)
