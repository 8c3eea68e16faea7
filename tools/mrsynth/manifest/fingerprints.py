"""Fingerprints of images: a subject is recognized under another name.

The fingerprint of a subject is a SHA-256 of how often each intensity occurs in its four sequences, background left out.
Compression, file names, data types, cropping, padding and orientation do not change it. Resampling and any change of
intensities do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from mrsynth.errors import UserError
from mrsynth.manifest.background import NoBackground, zero_background


def fingerprint_of(volumes: Iterable[np.ndarray]) -> str:
    """Fingerprint of the sequences of one subject.

    Args:
        volumes: ``(X, Y, Z)`` each, background 0, in the order t1, t1ce, t2, flair.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for volume in volumes:
        voxels = volume.ravel("K")  # the memory's order: the counts do not depend on it
        values, counts = np.unique(voxels[voxels != 0], return_counts=True)
        digest.update(values.astype("<f4").tobytes())
        digest.update(counts.astype("<i8").tobytes())
    return digest.hexdigest()


def fingerprint(item: Mapping[str, Any]) -> str:
    """Fingerprint of a datalist item: the one that it carries, as an index writes it, or computed from its files.

    Raises:
        UserError: a file cannot be read, or its background cannot be separated from the brain.
    """
    if item.get("fingerprint"):
        return str(item["fingerprint"])
    from mrsynth.manifest.check import read_volume  # which fingerprints what it reads

    files = [item["image"]] if isinstance(item["image"], str) else list(item["image"])
    volumes = []
    for file in files:
        try:
            voxels = read_volume(Path(file))[0]
            channels = [voxels] if voxels.ndim == 3 else list(np.moveaxis(voxels, -1, 0))
            if len(files) == 1 and item.get("channels") is not None:
                channels = [channels[number] for number in item["channels"]]
            volumes += [zero_background(channel) for channel in channels]
        except NoBackground as error:
            raise UserError("an image whose background is constant", str(error), file, "mask it") from error
    return fingerprint_of(volumes)


def fingerprints(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Fingerprint by subject id of the real subjects among ``items``; those not recorded are computed by two threads.

    A synthetic item counts by the ``parent_fingerprints`` of its recipient and its donor, which its datalist states.
    Items without ``image`` (patches of a store, for instance) have none and are left out.
    """
    real = [item for item in items if item.get("image") and not item.get("derived_from")]
    found = Parallel(n_jobs=2, prefer="threads")(delayed(fingerprint)(item) for item in real)
    own = {item["subject"]: text for item, text in zip(real, found, strict=True)}
    parents = {k: v for item in items for k, v in (item.get("parent_fingerprints") or {}).items()}
    return {**parents, **own}
