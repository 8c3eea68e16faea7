"""Draws that are a function of (seed, epoch, item), so that workers, caches and interruptions change nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import CacheDataset, Dataset, MetaTensor
from monai.transforms import Compose
from torch.utils.data import Sampler

from mrsynth import __version__
from mrsynth.errors import UserError
from mrsynth.files import atomic_path
from mrsynth.home import cache_home
from mrsynth.representation import ShowsParameters
from mrsynth.training.distributed import rank, world_size


def derived_seed(*parts: int) -> int:
    """A 32-bit seed from integers; different integers give different seeds.

    Raises:
        UserError: one of them is negative, or no integer.

    Examples:
        >>> from mrsynth.training import derived_seed
        >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
        (True, False)
    """
    if any(not isinstance(part, (int, np.integer)) or part < 0 for part in parts):
        raise UserError("a seed that is an integer of 0 or more", str(parts), "seed", "pass --seed 0")
    return int(np.random.SeedSequence([int(p) for p in parts]).generate_state(1)[0])


def seed_everything(*parts: int) -> None:
    """Set Python's, NumPy's and torch's generators from integers, for draws that use no generator of their own."""
    seed = derived_seed(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Draw(NamedTuple):
    """One draw of a sampler: item ``number`` as epoch ``epoch`` sees it, with a donor, or -1 for none.

    ``turn`` numbers the draws of one item within an epoch, from 0.
    """

    epoch: int
    number: int
    donor: int = -1
    turn: int = 0


class SeededSampler(ShowsParameters, Sampler):
    """Each epoch every item once, shuffled by (seed, epoch); each rank of a distributed run gets its own share.

    Args:
        items: number of items.
        seed: of the order.
        shuffle: or in order.

    Examples:
        >>> from mrsynth.training import SeededSampler
        >>> sampler = SeededSampler(3, seed=0)
        >>> sampler.set_epoch(5)
        >>> list(sampler) == list(sampler)  # a function of seed and epoch
        True
    """

    def __init__(self, items: int, seed: int = 0, shuffle: bool = True) -> None:
        self.items, self.seed, self.shuffle, self.epoch = items, seed, shuffle, 1

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 1, of the next iteration."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """The items of this epoch in their order, the same on every rank."""
        order = np.arange(self.items)
        return np.random.default_rng([self.seed, self.epoch]).permutation(order) if self.shuffle else order

    def draws(self) -> list[Draw]:
        """All draws of this epoch, of all ranks."""
        return [Draw(self.epoch, int(i)) for i in self.order()]

    def total(self) -> int:
        """Number of draws an epoch, of all ranks."""
        return self.items

    def __iter__(self) -> Iterator[Draw]:
        # ranks take equally many; what is left over waits for another epoch's order
        return iter(self.draws()[rank() : len(self) * world_size() : world_size()])

    def __len__(self) -> int:
        return self.total() // world_size()


class PairSampler(SeededSampler):
    """Recipients with donors. If disjoint, each epoch shuffles the items into pairs (A, B), each item in one pair.

    The thesis pairs so: 296 subjects give 148 iterations an epoch (Doncenco 2022, section 2.5). Not disjoint: each
    item is the recipient once, and its donor is the next in the epoch's order.

    Args:
        items: number of subjects, at least 2.
        seed: of the pairing.
        disjoint: see above.

    Raises:
        UserError: a single subject, which has no donor.

    Examples:
        >>> from mrsynth.training import PairSampler
        >>> pairs = list(PairSampler(4, seed=0))
        >>> [(pair.number, pair.donor) for pair in pairs]
        [(0, 3), (1, 2)]
    """

    def __init__(self, items: int, seed: int = 0, disjoint: bool = True) -> None:
        super().__init__(items, seed)
        self.disjoint = disjoint
        if items < 2:
            raise UserError(
                "at least two training subjects: a recipient and a donor", str(items), "training", "add subjects"
            )

    def draws(self) -> list[Draw]:
        order = [int(i) for i in self.order()]
        if self.disjoint:
            return [Draw(self.epoch, b, a) for a, b in zip(order[0::2], order[1::2], strict=False)]
        return [Draw(self.epoch, b, a) for a, b in zip(order, order[1:] + order[:1], strict=True)]

    def total(self) -> int:
        return self.items // 2 if self.disjoint else self.items


class PatchSampler(SeededSampler):
    """Patches of subjects: the length of an epoch is a number of patches, whatever the number of subjects.

    An epoch has ``subepochs``; for each, ``subjects`` are drawn without replacement, and as many patches are taken
    from one as from another (to within one), in random order. That is DeepMedic's scheme; one subepoch over all
    subjects is the usual one.

    Args:
        items: number of subjects.
        patches: in a subepoch.
        subepochs: in an epoch.
        subjects: drawn for a subepoch; None, or more than there are: all.
        synthetic: for each subject whether it is synthetic.
        synthetic_share: share of the patches that come from synthetic subjects, from 0 to 1; None treats all alike.
        seed: of all draws.

    Raises:
        UserError: no subjects, or no patches.

    Examples:
        >>> from mrsynth.training import PatchSampler
        >>> len(list(PatchSampler(items=3, patches=8)))
        8
    """

    def __init__(
        self,
        items: int,
        patches: int,
        subepochs: int = 1,
        subjects: int | None = None,
        synthetic: Sequence[bool] = (),
        synthetic_share: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(items, seed)
        if min(items, patches, subepochs, 1 if subjects is None else subjects) < 1:
            raise UserError(
                "at least one training subject, patch and subepoch",
                f"{items} subjects, {patches} patches, {subepochs} subepochs, {subjects} subjects a subepoch",
                "training part of the datalist, or the sampling settings",
                "add subjects to the training part, or set each of these settings to 1 or more",
            )
        self.patches, self.subepochs, self.subjects = patches, subepochs, subjects
        is_synthetic = np.asarray(synthetic if len(synthetic) else [False] * items, dtype=bool)
        # (who, patches of a subepoch)
        self.groups = [(np.arange(items), patches)]
        if synthetic_share is not None:
            if not 0 <= synthetic_share <= 1:
                raise UserError(
                    "a share from 0 to 1", repr(synthetic_share), "synthetic_share", "pass a share such as 0.5"
                )
            if is_synthetic.any() and not is_synthetic.all():
                made = round(synthetic_share * patches)
                shares = ((is_synthetic, made), (~is_synthetic, patches - made))
                self.groups = [(np.flatnonzero(who), share) for who, share in shares if share]

    def draws(self) -> list[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        turns = [0] * self.items
        draws = []
        for _ in range(self.subepochs):
            chosen: list[int] = []
            for who, wanted in self.groups:
                some = random.permutation(who)[: self.subjects]
                chosen += [int(some[i % len(some)]) for i in range(wanted)]
            for number in random.permutation(chosen):
                draws.append(Draw(self.epoch, int(number), turn=turns[number]))
                turns[number] += 1
        return draws

    def total(self) -> int:
        return self.subepochs * self.patches


class ClassSampler(SeededSampler):
    """Draws each class equally often (to within one); items of rarer classes come several times in an epoch (Haarburger
    2019).

    Args:
        classes: of each item, integers from 0.
        seed: of the order.
        draws_per_epoch: None for as many as there are items.

    Raises:
        UserError: no items, or a class below the highest that has none.

    Examples:
        >>> from mrsynth.training import ClassSampler
        >>> classes = [0] * 9 + [1]
        >>> draws = [classes[draw.number] for draw in ClassSampler(classes)]
        >>> draws.count(0) == draws.count(1)
        True
    """

    def __init__(self, classes: Sequence[int], seed: int = 0, draws_per_epoch: int | None = None) -> None:
        super().__init__(len(classes), seed)
        kinds = range(max(classes, default=-1) + 1)
        self.groups = [np.flatnonzero(np.asarray(classes) == kind) for kind in kinds]
        empty = [kind for kind, group in zip(kinds, self.groups, strict=True) if not len(group)]
        if empty or not self.groups:
            found = f"none of class {empty}" if self.groups else "no images"
            raise UserError("images of each class", found, "training", "add images, or leave the class out")
        self.count = draws_per_epoch or len(classes)

    def draws(self) -> list[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        draws = []
        for kind, group in enumerate(self.groups):
            wanted = self.count // len(self.groups) + (kind < self.count % len(self.groups))
            rounds = -(-wanted // len(group))
            chosen = [(int(i), turn) for turn in range(rounds) for i in random.permutation(group)][:wanted]
            draws += [Draw(self.epoch, i, turn=turn) for i, turn in chosen]
        return [draws[i] for i in random.permutation(len(draws))]

    def total(self) -> int:
        return self.count


CACHE = 2
"""Raised with every change of what a transform makes or of its items' keys, so that older items are not reused."""


class DiskCache(Dataset):
    """Preprocessed items as files. The key is made of the item, the sizes and times of its files, and the transforms.

    MONAI's ``PersistentDataset`` cannot read back MetaTensors with ``weights_only=True``; here a volume is written
    as its tensor and its affine, and read by memory mapping.

    Args:
        data: datalist items.
        transform: deterministic transforms; every value of an item becomes a volume or a plain Python value.
        folder: where the files lie; shared by all runs.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Compose, folder: Path) -> None:
        super().__init__(data, transform)
        self.folder = folder
        self.settings = [_describe(t) for t in transform.transforms]

    def path(self, index: int) -> Path:
        """File of item ``index``."""
        item = self.data[index]
        stamps = [__version__, str(CACHE), json.dumps(item, sort_keys=True, default=str), *self.settings]
        for value in item.values():
            for name in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []:
                if isinstance(name, str) and os.path.isfile(name):
                    status = os.stat(name)
                    stamps.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return self.folder / f"{hashlib.sha256(chr(10).join(stamps).encode()).hexdigest()}.pt"

    def __getitem__(self, index: int) -> dict:  # type: ignore[override]
        path = self.path(index)
        if path.is_file():
            stored = torch.load(path, weights_only=True, mmap=True)
            volumes = {k: MetaTensor(v["voxels"], affine=v["affine"]) for k, v in stored["volumes"].items()}
            return {**stored["plain"], **volumes}
        item = self.transform(self.data[index])
        volumes = {k: v for k, v in item.items() if isinstance(v, MetaTensor)}
        content = {
            "volumes": {k: {"voxels": v.as_tensor().contiguous(), "affine": v.affine} for k, v in volumes.items()},
            "plain": {k: v for k, v in item.items() if k not in volumes},
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
        return item


def _describe(value: Any) -> str:
    """A transform, or one of its settings, as text that is the same in every process."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_describe(v) for v in value)}]"
    if isinstance(value, Mapping):
        return (
            f"{{{', '.join(f'{k}: {_describe(v)}' for k, v in sorted(value.items(), key=lambda pair: str(pair[0])))}}}"
        )
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__") and not isinstance(value, (np.ndarray, torch.Tensor, Enum)):
        kind, settings = type(value), {k: v for k, v in vars(value).items() if not k.startswith("_")}
        return f"{kind.__module__}.{kind.__qualname__} {_describe(settings)}"
    return str(value)


MEMORY_SUBJECTS = 100
"""Up to so many items ``cache="auto"`` holds in memory: at BraTS's native voxels some 8 GB, 80 MB each."""


class SeededDataset(Dataset):
    """Preprocessed items, cached, with random transforms whose draws are a function of (seed, epoch, item, turn).

    Index it by a :class:`Draw` (or an integer: epoch 0). Where the draw names a donor, the item reaches the random
    transforms with ``donor`` (index) and ``donors`` (all preprocessed items of this dataset).

    Args:
        data: datalist items.
        preprocessing: deterministic transforms; what is cached.
        transform: random transforms; MONAI ``Randomizable`` ones among them are seeded for each draw.
        seed: of the draws.
        cache: ``memory``, ``disk`` (under the cache folder, keyed by files and transforms), ``auto`` (memory for up
            to :data:`MEMORY_SUBJECTS` items, disk for more), or ``none``.

    Raises:
        UserError: another ``cache``.

    Examples:
        >>> from monai.transforms import RandScaleIntensityd
        >>> from mrsynth.training import Draw, SeededDataset
        >>> import torch
        >>> data = [{"image": torch.ones(1, 2)}]
        >>> dataset = SeededDataset(data, [], [RandScaleIntensityd("image", 0.5, prob=1.0)], seed=3)
        >>> first, again, other = (dataset[Draw(epoch, 0)]["image"] for epoch in (1, 1, 2))
        >>> torch.equal(first, again), torch.equal(first, other)
        (True, False)
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        preprocessing: Callable | Sequence[Callable],
        transform: Callable | Sequence[Callable] | None = None,
        seed: int = 0,
        cache: str = "memory",
    ) -> None:
        deterministic = preprocessing if isinstance(preprocessing, Compose) else Compose(preprocessing)
        self.subjects: Dataset
        if cache == "auto":
            cache = "memory" if len(data) <= MEMORY_SUBJECTS else "disk"
        if cache == "memory":
            # one thread: numerical libraries that share their threads do not sum in the same order each time
            self.subjects = CacheDataset(data, deterministic, num_workers=1, copy_cache=False)
        elif cache == "disk":
            folder = cache_home() / "preprocessed"
            self.subjects = DiskCache(data, deterministic, folder)
        elif cache == "none":
            self.subjects = Dataset(data, deterministic)
        else:
            raise UserError("cache: auto, memory, disk or none", repr(cache), "cache", "pass --cache auto")
        super().__init__(list(data), None)
        random_part = transform if isinstance(transform, Compose) else Compose(transform or [])
        self.random_transform, self.seed = random_part, seed

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, draw: Draw | int) -> Any:  # type: ignore[override]
        draw = draw if isinstance(draw, Draw) else Draw(0, int(draw))
        item = dict(self.subjects[draw.number])
        if draw.donor >= 0:
            item.update(donor=draw.donor, donors=self.subjects)
        self.random_transform.set_random_state(seed=derived_seed(self.seed, draw.epoch, draw.number, draw.turn))
        return self.random_transform(item)
