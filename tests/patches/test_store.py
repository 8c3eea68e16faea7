"""The store: everything that its index says is there, whatever stopped it; and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mrsynth.files import write_csv
from mrsynth.manifest import write_datalist
from mrsynth.manifest.breasts import SEQUENCES, breast_datalist
from mrsynth.patches import CLASSES, cut_patches, patch_stacks, read_store
from mrsynth.patches.cutting import read_examination

OPTIONS = {"size": (96, 96, 8), "healthy": 12, "validation": 0, "test": 1, "workers": 1, "seed": 2}


def read(index: Path) -> dict:
    return json.loads(index.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def store(women, tmp_path_factory) -> Path:
    return cut_patches(women, tmp_path_factory.mktemp("store") / "patches", **OPTIONS)


def test_every_item_is_there_and_is_the_patch_that_it_says(store, women):
    index = read(store)
    assert index["channels"] == [*SEQUENCES, "sub"] and index["classes"] == list(CLASSES)
    assert index["size"] == [64, 64]
    items = {
        item["subject"]: item
        for part in ("training", "validation", "test")
        for item in breast_datalist(women, mode="random", seed=2, validation=0, test=1)[part]
    }
    for name, item in items.items():
        mine = [entry for entry in index["items"] if entry["subject"] == name]
        stack = np.load(store.parent / mine[0]["file"], mmap_mode="r")
        assert isinstance(stack, np.memmap) and stack.dtype == np.int16 and stack.shape == (len(mine), 7, 64, 64)
        assert [entry["row"] for entry in mine] == list(range(len(mine)))
        seen = read_examination(item, SEQUENCES, OPTIONS["size"])
        for entry in mine:
            row, column = entry["center"]
            np.testing.assert_array_equal(stack[entry["row"], :, 32, 32], seen.channels[:, column, row, entry["slice"]])
            lesion = seen.lesions[column, row, entry["slice"]]
            assert lesion == (entry["lesion"] or 0)
            assert CLASSES[entry["class"]] == item["lesions"].get(str(lesion), "healthy")


def test_counts_are_those_of_the_slices(store):
    """Lesion 1 lies on three slices, lesion 2 on two; each woman has twelve healthy places."""
    index = read(store)
    total = {name: sum(counts[name] for counts in index["counts"].values()) for name in CLASSES}
    assert total == {"healthy": 48, "benign": 6, "malignant": 2 + 3 + 2}
    for section, counts in index["counts"].items():
        for number, name in enumerate(CLASSES):
            there = [i for i in index["items"] if i["section"] == section and i["class"] == number]
            assert len(there) == counts[name]
    assert len({item["section"] for item in index["items"] if item["subject"] == "A"}) == 1


def test_scale_maps_onto_one_to_minus_one(store):
    index = read(store)
    divide, subtract = (np.array(index["scale"][key])[:, None, None] for key in ("divide", "subtract"))
    for name in "ABCD":
        images = np.load(store.parent / f"patches/{name}.npy") / divide - subtract
        assert images.min() >= -1 and images.max() <= 1
        assert images[:, :6].min() < -0.95
        # the subtraction remains half the difference of its images
        np.testing.assert_allclose(images[:, 6], (images[:, 2] - images[:, 1]) / 2, atol=1e-9)


def test_stopped_and_gone_on(store, women, tmp_path):
    out = tmp_path / "patches"
    index = cut_patches(women, out, **OPTIONS)
    assert read(index) == read(store)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (out / "patches").iterdir()}
    index.unlink()
    (out / "patches/B.json").unlink()  # as if it had been stopped while at B
    (out / "patches/.tmp-C.npy").touch()
    assert read(cut_patches(women, out, **OPTIONS | {"workers": 2})) == read(store)
    for path in (out / "patches").glob("[!.]*"):
        data, stamp = before[path.name]
        assert path.read_bytes() == data
        assert (path.stat().st_mtime_ns == stamp) == (path.name[0] != "B")


def test_files_that_have_changed_are_cut_again(write, tmp_path):
    folder = write({"A": {1: "benign", 2: "malignant"}, "B": {1: "benign"}})
    options = OPTIONS | {"test": 0}
    index = read(cut_patches(folder, tmp_path / "out", **options))
    a, b = (tmp_path / "out/patches" / f"{name}.npy" for name in "AB")
    stamps = a.stat().st_mtime_ns, b.stat().st_mtime_ns
    os.utime(folder / "B/t2.nii.gz", ns=(1, 1))
    rows = [{"subject": "A", "lesion": number, "class": "malignant"} for number in (1, 2)]
    write_csv(folder / "lesions.csv", [*rows, {"subject": "B", "lesion": 1, "class": "benign"}])
    again = read(cut_patches(folder, tmp_path / "out", **options))
    assert a.stat().st_mtime_ns > stamps[0] and b.stat().st_mtime_ns > stamps[1]
    assert again["counts"]["training"]["malignant"] == index["counts"]["training"]["malignant"] + 3


def test_healthy_places_of_a_woman_do_not_depend_on_the_others(store, write, tmp_path, women):
    rows = (women / "subjects.csv").read_text().splitlines()
    (tmp_path / "few").mkdir()
    for entry in women.iterdir():
        if entry.is_dir():
            (tmp_path / "few" / entry.name).symlink_to(entry)
    (tmp_path / "few/subjects.csv").write_text("\n".join(row for row in rows if not row.startswith("B")))
    lesions = (women / "lesions.csv").read_text().splitlines()
    (tmp_path / "few/lesions.csv").write_text("\n".join(row for row in lesions if not row.startswith("B")))
    few = read(cut_patches(tmp_path / "few", tmp_path / "out", **OPTIONS | {"test": 0}))
    for name in "ACD":
        mine, theirs = (
            [(item["center"], item["slice"]) for item in index["items"] if item["subject"] == name]
            for index in (few, read(store))
        )
        assert mine == theirs


def test_fewer_sequences_and_classes(write, tmp_path):
    """A set without T2 and without benign lesions, as several public ones are."""
    folder = write({"A": {1: "malignant"}, "B": {2: "malignant"}})
    wanted = ["t1_pre", "t1_post1", "t1_post2"]
    index = read(cut_patches(folder, tmp_path / "out", **OPTIONS, classes=("healthy", "malignant"), sequences=wanted))
    assert index["channels"] == [*wanted, "sub"] and index["classes"] == ["healthy", "malignant"]
    assert {item["class"] for item in index["items"]} == {0, 1}
    assert np.load(tmp_path / "out/patches/A.npy").shape[1] == 4


def test_lesions_alone(write, tmp_path):
    folder = write({"A": {1: "malignant"}, "C": {}})
    options = OPTIONS | {"healthy": 0, "test": 0}
    index = read(cut_patches(folder, tmp_path / "out", **options, classes="malignant"))
    assert [item["class"] for item in index["items"]] == [0, 0, 0]
    assert np.load(tmp_path / "out/patches/C.npy").shape == (0, 7, 64, 64)


def test_a_datalist_brings_its_own_split(women, tmp_path, store):
    content = breast_datalist(women, validation=1, test=1, seed=5)
    write_datalist(tmp_path / "datalist.json", content)
    index = read(cut_patches(tmp_path / "datalist.json", tmp_path / "out", **OPTIONS))
    for section in ("training", "validation", "test"):
        there = {item["subject"] for item in index["items"] if item["section"] == section}
        assert there == {item["subject"] for item in content[section]}


def test_a_lesion_at_the_border_of_the_image(write, tmp_path):
    boxes = {1: (slice(0, 3), slice(60, 64), slice(0, 2)), 2: (slice(70, 73), slice(20, 26), slice(7, 8))}
    folder = write({"A": {1: "benign", 2: "malignant"}}, boxes=boxes)
    index = read(cut_patches(folder, tmp_path / "out", **OPTIONS | {"test": 0}))
    lesions = [item for item in index["items"] if item["lesion"]]
    assert [item["slice"] for item in lesions] == [0, 1, 7]
    patch = np.load(tmp_path / "out/patches/A.npy")[0]
    assert lesions[0]["center"] == [62, 1] and (patch[:, :, :31] == 0).all() and (patch[1, :, 31:] > 0).any()


# refusals --------------------------------------------------------------------------------------------------


def test_a_class_without_a_patch_is_refused_before_the_work(write, tmp_path, refused):
    folder = write({"A": {1: "malignant"}, "B": {2: "malignant"}})
    with refused(found="none of benign", do="--classes"):
        cut_patches(folder, tmp_path / "out", **OPTIONS)
    with refused(found="none of healthy, benign"):
        cut_patches(folder, tmp_path / "out", **OPTIONS | {"healthy": 0})
    with refused(found="malignant ones", do="--classes"):
        cut_patches(folder, tmp_path / "out", **OPTIONS, classes=("healthy", "benign"))
    assert not (tmp_path / "out").exists()


def test_no_healthy_place_at_all(write, tmp_path, refused):
    folder = write({"A": {1: "benign", 2: "malignant"}}, boxes={1: np.s_[10:40, 10:60], 2: np.s_[55:90, 10:60]})
    with refused(found="none of healthy"):
        cut_patches(folder, tmp_path / "out", **OPTIONS | {"test": 0})
    assert not (tmp_path / "out/index.json").exists()


def test_bad_subjects_are_named_together_or_left_out(write, tmp_path, refused):
    folder = write({"A": {1: "benign", 2: "malignant"}, "B": {1: "benign"}, "C": {1: "benign"}, "D": {}})
    (folder / "B/t2.nii.gz").write_bytes(b"no image")
    (folder / "C/label.nii.gz").write_bytes((folder / "A/label.nii.gz").read_bytes())
    options = OPTIONS | {"test": 0}
    for fault in ("2 of 4", "B: named as gzip-compressed", "C: lesion 2 of C has no class"):
        with refused(found=fault, do="--skip_bad"):
            cut_patches(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out/index.json").exists() and (tmp_path / "out/patches/A.json").exists()
    index = read(cut_patches(folder, tmp_path / "out", **options, skip_bad=True))
    assert {item["subject"] for item in index["items"]} == {"A", "D"}
    assert len(index["skipped"]) == 2 and "lesion 2 of C has no class" in " ".join(index["skipped"])


def test_sequences_without_a_subtraction(women, tmp_path, refused):
    with refused(found="no t1_post1"):
        cut_patches(women, tmp_path / "out", **OPTIONS, sequences=("t2", "t1_pre"))


def test_a_folder_in_use(store, women, tmp_path, refused):
    with refused(found="healthy 12 instead of 13"):
        cut_patches(women, store.parent, **OPTIONS | {"healthy": 13})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("irreplaceable")
    with refused(found="other files"):
        cut_patches(women, tmp_path / "mine", **OPTIONS)
    with refused(found="a file"):
        cut_patches(women, tmp_path / "mine/thesis.txt", **OPTIONS)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_a_whole_store_is_not_turned_into_one_of_others(store, women, write, tmp_path, refused):
    index = cut_patches(women, tmp_path / "out", **OPTIONS)
    before = index.read_bytes()
    with refused(found="in different sections", where="index.json", do="delete its index.json"):
        cut_patches(women, tmp_path / "out", **OPTIONS | {"test": 0})
    with refused(expected="the patches of data: 1 subjects", found="the store of women"):
        cut_patches(write({"A": {1: "benign", 2: "malignant"}}), tmp_path / "out", **OPTIONS | {"test": 0})
    assert index.read_bytes() == before
    index.unlink()
    array = tmp_path / "out/patches/A.npy"
    stamp = array.stat().st_mtime_ns
    again = cut_patches(women, tmp_path / "out", **OPTIONS | {"test": 0})
    assert not any(item["section"] == "test" for item in read(again)["items"]) and array.stat().st_mtime_ns == stamp


def test_a_store_is_known_again_wherever_it_lies(store, women, tmp_path):
    same, other = (cut_patches(women, tmp_path / str(n), **OPTIONS | {"test": n}) for n in (1, 0))
    assert read_store(same)["sha256"] == read_store(store.parent)["sha256"] != read_store(other)["sha256"]
    assert read_store(store)["split"] == {"split": "random", "seed": 2, "validation": 0, "test": 1}


def test_what_is_no_store(store, tmp_path, refused):
    with refused(found="no readable index.json", where=str(tmp_path), do="mrsynth patches"):
        read_store(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with refused(found="without channels, classes"):
        patch_stacks(tmp_path / "index.json", "training")


def test_an_empty_folder(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    with refused(found="an empty folder"):
        cut_patches(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": (96, 96)}, "size"),
        ({"size": (96, 96, 0)}, "size"),
        ({"patch": 1}, "patch"),
        ({"clear": 0}, "clear"),
        ({"healthy": -1}, "healthy"),
        ({"healthy": 1.5}, "healthy"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"classes": ("healthy", "cyst")}, "classes"),
    ],
)
def test_refuses_parameters(women, tmp_path, refused, wrong, said):
    with refused(where=said):
        cut_patches(women, tmp_path / "out", **OPTIONS | wrong)
    assert not (tmp_path / "out").exists()
