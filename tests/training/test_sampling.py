"""Draws are a function of (seed, epoch, item): samplers, datasets, caches."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from torch.utils.data import DataLoader

from mrsynth.training import Draw, PairSampler, SeededDataset, SeededSampler, derived_seed, sampling, seed_everything


def draws(sampler, epoch: int) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_seeds_derived_from_unlike_parts_are_unlike():
    seeds = [derived_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(1, 2, 3) == derived_seed(1, 2, 3)


def test_seeding_sets_every_generator():
    def drawn():
        seed_everything(4, 2)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert drawn() == drawn()


@pytest.mark.parametrize(
    "make", [lambda s: SeededSampler(9, s), lambda s: PairSampler(9, s), lambda s: PairSampler(9, s, False)]
)
def test_the_order_is_that_of_seed_and_epoch_alone(make):
    first = [draws(make(1), epoch) for epoch in range(1, 5)]
    assert first == [draws(make(1), epoch) for epoch in range(1, 5)]
    later = make(1)
    assert draws(later, 4) == first[3]  # whatever came before
    orders = [tuple(d.number for d in epoch) for epoch in first]
    assert len(set(orders)) == 4
    assert [d.number for d in draws(make(2), 1)] != list(orders[0])


def test_without_shuffling_items_come_in_order():
    assert [d.number for d in draws(SeededSampler(4, shuffle=False), 3)] == [0, 1, 2, 3]


def test_each_subject_is_in_one_pair_an_epoch_and_never_its_own_donor():
    sampler = PairSampler(296, seed=0)
    assert len(sampler) == 148
    partners = []
    for epoch in (1, 2):
        pairs = draws(sampler, epoch)
        assert len(pairs) == 148 and all(pair.epoch == epoch for pair in pairs)
        assert sorted(i for pair in pairs for i in (pair.number, pair.donor)) == list(range(296))
        partners.append({frozenset((pair.number, pair.donor)) for pair in pairs})
    assert len(partners[0] & partners[1]) < 10


def test_of_an_odd_number_another_waits_each_epoch():
    sampler = PairSampler(7)
    waiting = {
        (set(range(7)) - {i for d in draws(sampler, e) for i in (d.number, d.donor)}).pop() for e in range(1, 30)
    }
    assert len(sampler) == 3 and len(waiting) > 3


def test_not_disjoint_each_subject_is_recipient_once_and_donor_once():
    pairs = draws(PairSampler(7, disjoint=False), 1)
    assert sorted(d.number for d in pairs) == sorted(d.donor for d in pairs) == list(range(7))
    assert all(d.number != d.donor for d in pairs)


def test_a_single_subject_is_refused(refused):
    with refused(expected="two training subjects", found="1", do="add subjects"):
        PairSampler(1)


@pytest.mark.parametrize(
    "make", [lambda: SeededSampler(11), lambda: PairSampler(11, disjoint=False), lambda: PairSampler(22)]
)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_take_equal_and_disjoint_shares(monkeypatch, make, world):
    whole = draws(make(), 2)
    monkeypatch.setattr(sampling, "world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        shares.append(draws(make(), 2))
        assert len(shares[-1]) == len(make()) == 11 // world
    counted = Counter(draw for share in shares for draw in share)
    assert max(counted.values()) == 1 and set(counted) <= set(whole)


@pytest.fixture
def entries(brats, subjects_dir) -> list[dict]:
    _, entry = brats
    return [entry(subjects_dir, f"BraTS2021_{i:05d}") for i in range(4)]


def dataset(tumor3d, entries: list[dict], cache: str, seed: int = 1) -> SeededDataset:
    """As train.json makes it: flips and donors are drawn."""
    scripts = tumor3d.preprocessing
    prepare = scripts.preprocessing([16, 16, 16], "brain", "percentiles", "tissue", "linear")
    return SeededDataset(entries, prepare, scripts.transplanting("tissue", "one_hot", True, 0.5, 0.5), seed, cache)


def seen(data: SeededDataset, workers: int, epoch: int = 3) -> list[tuple]:
    sampler = PairSampler(len(data), seed=1, disjoint=False)
    sampler.set_epoch(epoch)
    loader = DataLoader(
        data, sampler=sampler, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    keys = ("image", "label", "transplanted", "own_condition", "fused_condition")
    return [(b["subject"], b["transplant"]["donor"], *(b[k].as_tensor().clone() for k in keys)) for b in loader]


def equal(first: list[tuple], second: list[tuple]) -> bool:
    pairs = [(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_workers_and_cache_change_nothing(tumor3d, entries, tmp_path, monkeypatch):
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path))
    expected = seen(dataset(tumor3d, entries, "memory"), 0)
    assert equal(expected, seen(dataset(tumor3d, entries, "none"), 2))
    assert equal(expected, seen(dataset(tumor3d, entries, "disk"), 2))  # making the files
    assert equal(expected, seen(dataset(tumor3d, entries, "disk"), 0))  # reading them
    assert not equal(expected, seen(dataset(tumor3d, entries, "memory"), 0, epoch=4))
    assert not equal(expected, seen(dataset(tumor3d, entries, "memory", seed=2), 0))


def test_an_item_can_be_asked_for_by_number(tumor3d, entries):
    item = SeededDataset(entries, dataset(tumor3d, entries, "none").subjects.transform, cache="none")[2]
    assert item["subject"] == "BraTS2021_00002" and "donors" not in item


def test_auto_caches_few_subjects_in_memory_and_many_on_disk():
    few, many = (
        [{"subject": str(i)} for i in range(n)] for n in (sampling.MEMORY_SUBJECTS, sampling.MEMORY_SUBJECTS + 1)
    )
    assert isinstance(SeededDataset(few, [], cache="auto").subjects, CacheDataset)
    assert isinstance(SeededDataset(many, [], cache="auto").subjects, sampling.DiskCache)


def test_an_unknown_cache_is_refused(entries, refused):
    with refused(expected="auto, memory, disk or none", found="'ram'"):
        SeededDataset(entries, [], cache="ram")


READ = """
import json, os, sys
from mrsynth.training import SeededDataset
from mrsynth.transforms import BrainMaskd, CropResampled, LoadSubjectd

class Counting(LoadSubjectd):
    def __call__(self, data):
        loaded.append(data["subject"])
        return super().__call__(data)

entries = json.loads(sys.argv[1])
for task in sys.argv[2:]:
    if task == "touch":
        os.utime(entries[1]["image"][2], (1, 1))
        continue
    loaded = []
    steps = [Counting(), BrainMaskd(), CropResampled(["image", "label", "brain"], json.loads(task))]
    items = list(SeededDataset(entries, steps, cache="disk"))
    given = [[i["subject"], i["image"].tolist(), i["image"].affine.tolist(), i["label_map"]] for i in items]
    print(json.dumps([loaded, given]))
"""


@pytest.mark.slow
def test_preprocessed_files_serve_other_processes_until_anything_changes(brats, make_brain, tmp_path):
    write, entry = brats
    names = ("BraTS2021_00000", "BraTS2021_00001")
    for seed, name in enumerate(names):
        write(tmp_path, name, make_brain(seed))
    entries = [{**entry(tmp_path, name), "label_map": {"0": 0, "1": 1, "2": 2, "4": 4}} for name in names]

    def read(*tasks: str) -> list:
        """For each size what was loaded, and what was given."""
        ended = subprocess.run(
            [sys.executable, "-c", READ, json.dumps(entries), *tasks],
            env=os.environ | {"MRSYNTH_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in ended.stdout.splitlines()]

    ((loaded, first),) = read("[8, 8, 8]")
    assert loaded == list(names)
    again, other_size, other_file, at_last = read("[8, 8, 8]", "[8, 8, 4]", "touch", "[8, 8, 8]", "[8, 8, 8]")
    assert again == [[], first]
    assert other_size[0] == list(names)
    assert other_file == [["BraTS2021_00001"], first]
    assert at_last == [[], first]
