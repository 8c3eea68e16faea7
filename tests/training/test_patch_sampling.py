"""Patches: who is drawn how often, draws of one subject told apart, and the disk cache of a segmenter's subjects."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import pytest
import torch
from monai.transforms import Randomizable, Transform

from mrsynth.training import Draw, PatchSampler, SeededDataset, sampling
from tests.conftest import ROOT, scripts_of


@pytest.fixture(scope="module")
def unet3d() -> Iterator[object]:
    """The module ``scripts`` of bundles/unet3d."""
    with scripts_of("unet3d") as scripts:
        yield scripts


def draws(sampler: PatchSampler, epoch: int = 1) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("items", "patches"), [(5, 20), (7, 20), (30, 20), (1, 3)])
def test_subjects_give_equally_many_patches_to_within_one(items, patches):
    sampler = PatchSampler(items, patches)
    drawn = draws(sampler)
    counted = Counter(d.number for d in drawn)
    numbers = [counted[i] for i in range(items)]
    assert len(drawn) == len(sampler) == patches and max(numbers) - min(numbers) <= 1


def test_each_subepoch_draws_its_own_subjects_without_replacement():
    sampler = PatchSampler(20, patches=12, subepochs=5, subjects=6)
    drawn = draws(sampler)
    parts = [Counter(d.number for d in drawn[i : i + 12]) for i in range(0, 60, 12)]
    assert len(drawn) == len(sampler) == 60
    assert all(set(part.values()) == {2} and len(part) == 6 for part in parts)
    assert len({frozenset(part) for part in parts}) > 1


def test_more_subjects_than_there_are_means_all():
    assert {d.number for d in draws(PatchSampler(4, 8, subjects=50))} == {0, 1, 2, 3}


def test_draws_of_one_subject_in_an_epoch_are_told_apart():
    drawn = draws(PatchSampler(3, patches=7, subepochs=4), epoch=2)
    assert len(set(drawn)) == len(drawn) == 28 and all(d.epoch == 2 and d.donor == -1 for d in drawn)
    for number in range(3):
        turns = [d.turn for d in drawn if d.number == number]
        assert turns == list(range(len(turns)))


def test_the_order_is_that_of_seed_and_epoch_alone():
    first = [draws(PatchSampler(6, 12, seed=1), epoch) for epoch in (1, 2, 3)]
    later = PatchSampler(6, 12, seed=1)
    assert draws(later, 3) == first[2] and draws(later, 1) == first[0]
    assert len({tuple(d.number for d in epoch) for epoch in first}) == 3
    assert [d.number for d in draws(PatchSampler(6, 12, seed=2))] != [d.number for d in first[0]]
    assert [d.number for d in first[0]] != sorted(d.number for d in first[0])


@pytest.mark.parametrize("world", [2, 3])
def test_all_ranks_together_draw_what_one_does(monkeypatch, world):
    def make():
        return PatchSampler(5, patches=12, subepochs=2, subjects=3, seed=4)

    alone = draws(make(), 3)
    monkeypatch.setattr(sampling, "world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        shares.append(draws(make(), 3))
    assert len({len(share) for share in shares}) == 1
    assert list(chain(*zip_longest(*shares))) == alone


@pytest.mark.parametrize("share", [0.0, 0.15, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("patches", [1, 2, 5, 10, 15, 40])
def test_synthetic_subjects_get_their_share_of_the_patches_and_no_patch_is_lost(share, patches):
    synthetic = [True] * 9 + [False] * 3
    sampler = PatchSampler(12, patches, subepochs=3, synthetic=synthetic, synthetic_share=share)
    drawn = draws(sampler)
    assert len(drawn) == len(sampler) == 3 * patches
    for part in (drawn[i : i + patches] for i in range(0, len(drawn), patches)):
        assert abs(sum(synthetic[d.number] for d in part) - share * patches) <= 0.5


def test_without_a_share_synthetic_subjects_are_as_others():
    synthetic = [True, True, True, False]
    assert draws(PatchSampler(4, 8, synthetic=synthetic)) == draws(PatchSampler(4, 8))
    counted = Counter(d.number for d in draws(PatchSampler(4, 8, synthetic=synthetic)))
    assert set(counted.values()) == {2}


@pytest.mark.parametrize("synthetic", [[True] * 3, [False] * 3, []], ids=["all", "none", "unknown"])
def test_where_all_are_of_one_kind_the_share_means_nothing(synthetic):
    sampler = PatchSampler(3, 6, synthetic=synthetic, synthetic_share=0.5)
    assert set(Counter(d.number for d in draws(sampler)).values()) == {2}


@pytest.mark.parametrize(
    "options", [{"items": 0}, {"patches": 0}, {"subepochs": 0}, {"subjects": 0}], ids=lambda o: next(iter(o))
)
def test_nothing_to_draw_is_refused(refused, options):
    with refused(expected="at least one", found="0 ", where="training"):
        PatchSampler(**{"items": 3, "patches": 4, **options})


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_beyond_all_is_refused(refused, share):
    with refused(expected="from 0 to 1", found=str(share), where="synthetic_share"):
        PatchSampler(3, 4, synthetic=[True, False, False], synthetic_share=share)


class Number(Randomizable, Transform):
    """Gives what it draws."""

    def __call__(self, data: dict) -> float:
        return float(self.R.uniform())


def test_what_an_item_draws_depends_on_its_turn():
    data = SeededDataset([{"subject": "A"}, {"subject": "B"}], [], [Number()], seed=5, cache="none")
    seen = {draw: data[draw] for draw in (Draw(e, n, turn=t) for e in (1, 2) for n in (0, 1) for t in range(4))}
    assert len(set(seen.values())) == 16
    assert all(data[draw] == value for draw, value in reversed(seen.items()))
    assert data[0] == data[Draw(0, 0)]


@pytest.fixture(scope="module")
def entries(brats, subjects_dir) -> list[dict]:
    _, entry = brats
    return [{**entry(subjects_dir, f"BraTS2021_{i:05d}"), "label_map": {0: 0, 1: 1, 2: 2, 4: 4}} for i in range(2)]


def patches(unet3d, entries: list[dict], cache: str, augmentation: str = "usual") -> SeededDataset:
    """As train.json makes it."""
    scripts = unet3d.preprocessing
    prepare = scripts.with_voxels(None, "brain", [12, 12, 12])
    return SeededDataset(entries, prepare, scripts.patches([12, 12, 12], 0.5, augmentation), seed=1, cache=cache)


DRAWS = [Draw(2, number, turn=turn) for number in (0, 1) for turn in range(6)]


def test_the_cache_changes_no_patch_and_no_patch_changes_the_cache(unet3d, entries, tmp_path, monkeypatch):
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    memory = patches(unet3d, entries, "memory")
    before = [{k: v.clone() for k, v in item.items() if k != "subject"} for item in memory.subjects]
    expected = [memory[draw][0] for draw in DRAWS]
    for item, kept in zip(memory.subjects, before, strict=True):
        assert all(torch.equal(item[key], value) for key, value in kept.items())
    for cache in ("none", "disk", "disk"):  # made, then read
        found = patches(unet3d, entries, cache)
        for draw, patch in zip(DRAWS, expected, strict=True):
            again = found[draw][0]
            assert all(torch.equal(again[key], patch[key]) for key in ("image", "label")), (cache, draw)
    images = [patch["image"] for patch in expected]
    assert not any(torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])


def test_a_subject_comes_back_from_the_disk_as_it_went(unet3d, entries, tmp_path, monkeypatch):
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    for data in (
        patches(unet3d, entries, "disk"),
        SeededDataset(entries, unet3d.preprocessing.preprocessing([16, 16, 12], "brain"), cache="disk"),
    ):
        made, read = data.subjects[1], data.subjects[1]
        assert data.subjects.path(1).is_file() and made.keys() == read.keys()
        for key, value in made.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value.as_tensor(), read[key].as_tensor()) and value.dtype == read[key].dtype
                assert torch.equal(value.affine, read[key].affine)
        assert read["subject"] == "BraTS2021_00001"


KEYS = """
import json, sys
import scripts
from mrsynth.training import SeededDataset
entries = json.loads(sys.argv[1])
for item in entries:
    item["label_map"] = {int(k): v for k, v in item["label_map"].items()}
data = SeededDataset(entries, scripts.preprocessing.with_voxels(None, "brain", [12, 12, 12]), cache="disk")
print(json.dumps([str(data.subjects.path(i)) for i in range(len(entries))]))
"""


def test_another_process_finds_the_same_files(unet3d, entries):
    data = patches(unet3d, entries, "disk")
    said = subprocess.run(
        [sys.executable, "-c", KEYS, json.dumps(entries)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "bundles" / "unet3d"), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(said.splitlines()[-1]) == [str(data.subjects.path(i)) for i in range(2)]
    assert not any(re.search(r"\b0x[0-9a-f]{4,}", setting) for setting in data.subjects.settings)


@pytest.mark.parametrize(
    "other", [([12, 12, 16], "brain", None), ([12, 12, 12], [2, 18], None), ([12, 12, 12], "brain", [16, 16, 16])]
)
def test_other_settings_are_other_files(unet3d, entries, other):
    def path(size, crop, grid) -> Path:
        return SeededDataset(entries, unet3d.preprocessing.with_voxels(grid, crop, size), cache="disk").subjects.path(0)

    assert path(*other) != path([12, 12, 12], "brain", None)
