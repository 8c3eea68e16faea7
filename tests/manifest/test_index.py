"""Indexing: every layout as it is really found, every kind of bad input, the datalist that comes out."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from mrsynth.errors import UserError
from mrsynth.manifest import SECTIONS, index, indexing, load_datalist, summary
from mrsynth.manifest.splits import split_subjects

SEQUENCES = ["t1", "t1ce", "t2", "flair"]


def items(datalist):
    return [item for section in SECTIONS for item in datalist[section]]


def subjects(datalist):
    return sorted(item["subject"] for item in items(datalist))


def refused(*args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        index(*args, **kwargs)
    return str(error.value)


# layouts ---------------------------------------------------------------------------------------------------


def test_2021(tmp_path, make):
    make.brats2021(tmp_path, 12)
    datalist = index(tmp_path)
    assert datalist["dataset"] == "brats2021"
    assert [len(datalist[section]) for section in SECTIONS] == [9, 1, 2]
    assert datalist["label_map"] == {"0": 0, "1": 1, "2": 2, "4": 4}
    assert datalist["modality"] == {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"}
    assert datalist["channels"] is None
    for item in items(datalist):
        names = [Path(path).name for path in item["image"]]
        assert names == [f"{item['subject']}_{sequence}.nii.gz" for sequence in SEQUENCES]
        assert Path(item["label"]).name == f"{item['subject']}_seg.nii.gz"
    assert "CC BY" in datalist["license"] and "9 training" in summary(datalist)


def test_phantom_at_any_grid(tmp_path, make):
    make.brats(tmp_path, [f"Phantom_{i:05d}" for i in range(3)])
    assert index(tmp_path)["dataset"] == "phantom"


@pytest.mark.parametrize(("year", "prefix"), [(2018, "Brats18"), (2019, "BraTS19")])
def test_grades_from_folders_and_two_levels_up(tmp_path, make, year, prefix):
    below = tmp_path / "download" / f"MICCAI_BraTS_{year}_Data_Training"
    ids = [f"HGG/{prefix}_CBICA_AAB_1", f"HGG/{prefix}_2013_10_1", f"LGG/{prefix}_TCIA10_103_1"]
    make.brats(below, ids)
    for root in (tmp_path, tmp_path / "download", below):
        datalist = index(root)
        assert datalist["dataset"] == f"brats{year}"
        assert {item["subject"]: item["grade"] for item in items(datalist)} == {
            f"{prefix}_CBICA_AAB_1": "HGG",
            f"{prefix}_2013_10_1": "HGG",
            f"{prefix}_TCIA10_103_1": "LGG",
        }
    assert [item["grade"] for item in items(index(below / "HGG", test=1, validation=0))] == ["HGG", "HGG"]


def test_kaggle_copy_of_2020(tmp_path, make):
    training = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    make.brats(training, [f"BraTS20_Training_{i}" for i in ("001", "002", "355")], suffix=".nii")
    odd = training / "BraTS20_Training_355"
    (odd / "BraTS20_Training_355_seg.nii").rename(odd / "W39_1998.09.19_Segm.nii")
    header = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,"
    (training / "name_mapping.csv").write_text(
        header + "BraTS_2020_subject_ID\n"
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001\n"
        "LGG,NA,NA,NA,NA,BraTS20_Training_002\n"
    )
    shutil.copy(odd / "W39_1998.09.19_Segm.nii", odd / "BraTS20_Training_355_seg.nii")
    assert any(item["label"].endswith("355_seg.nii") for item in items(index(training)))
    (odd / "BraTS20_Training_355_seg.nii").unlink()
    validation = tmp_path / "BraTS2020_ValidationData" / "MICCAI_BraTS2020_ValidationData"
    (folder,) = make.brats(validation, ["BraTS20_Validation_001"], suffix=".nii")
    (folder / "BraTS20_Validation_001_seg.nii").unlink()
    datalist = index(tmp_path)
    assert subjects(datalist) == [f"BraTS20_Training_{i}" for i in ("001", "002", "355")]
    by_id = {item["subject"]: item for item in items(datalist)}
    assert by_id["BraTS20_Training_355"]["label"].endswith("W39_1998.09.19_Segm.nii")
    assert [by_id[f"BraTS20_Training_{i}"].get("grade") for i in ("001", "002", "355")] == ["HGG", "LGG", None]
    assert any("1 subjects of a validation or test part" in text for text in datalist["warnings"])
    assert "never published" in refused(validation)


def test_copy_whose_files_are_folders(tmp_path, make):
    for folder in make.brats2021(tmp_path):
        path = folder / f"{folder.name}_flair.nii.gz"
        inner = path.with_name(f"{folder.name}_flair.nii.gz.tmp")
        path.rename(inner)
        path.mkdir()
        inner.rename(path / "00000057_brain_flair.nii.gz")
    assert all(item["image"][3].endswith("00000057_brain_flair.nii.gz") for item in items(index(tmp_path)))


def test_links_that_lead_back_and_links_to_subjects(tmp_path, make):
    make.brats2021(tmp_path / "store")
    (tmp_path / "data").mkdir()
    for folder in (tmp_path / "store").iterdir():
        (tmp_path / "data" / folder.name).symlink_to(folder)
    (tmp_path / "data" / "back").symlink_to(tmp_path / "data")
    assert len(subjects(index(tmp_path / "data"))) == 3


def test_2023_time_points_are_one_patient(tmp_path, make):
    ids = [f"BraTS-GLI-{i:05d}-{j:03d}" for i in range(4) for j in range(2)]
    make.brats2023(tmp_path / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData", ids)
    datalist = index(tmp_path)
    assert datalist["dataset"] == "brats2023"
    assert datalist["label_map"]["3"] == 4
    assert Path(datalist["training"][0]["image"][1]).name.endswith("-t1c.nii.gz")
    sides = {}
    for section in SECTIONS:
        for item in datalist[section]:
            sides.setdefault(item["patient"], set()).add(section)
    assert len(sides) == 4 and all(len(side) == 1 for side in sides.values())


def test_2015(tmp_path, make):
    root = tmp_path / "BRATS2015_Training"
    make.brats2015(
        root,
        [
            "HGG/brats_2013_pat0001_1",
            "LGG/brats_2013_pat0001_1",
            "HGG/brats_tcia_pat105_0001",
            "HGG/brats_tcia_pat105_0002",
        ],
    )
    datalist = index(root, validation=0, test=1)
    assert datalist["dataset"] == "brats2015"
    assert datalist["label_map"]["3"] == 1
    # the two pat0001 of different grades are different people
    assert "HGG_brats_2013_pat0001_1" in subjects(datalist) and "LGG_brats_2013_pat0001_1" in subjects(datalist)
    by_id = {item["subject"]: item for item in items(datalist)}
    assert by_id["HGG_brats_tcia_pat105_0001"]["patient"] == by_id["HGG_brats_tcia_pat105_0002"]["patient"]
    assert by_id["LGG_brats_2013_pat0001_1"]["grade"] == "LGG"
    image = by_id["HGG_brats_2013_pat0001_1"]["image"]
    assert [Path(path).name.split(".")[4] for path in image] == ["MR_T1", "MR_T1c", "MR_T2", "MR_Flair"]
    assert subjects(index(tmp_path, validation=0, test=1)) == subjects(datalist)


def test_2015_named_as_2016(tmp_path, make):
    make.brats2015(tmp_path, [f"HGG/brats_2013_pat000{i}_1" for i in range(3)])
    assert index(tmp_path, dataset="brats2016")["dataset"] == "brats2016"


def test_decathlon(tmp_path, make):
    root = tmp_path / "Task01_BrainTumour"
    make.decathlon(root)
    stated = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (root / "dataset.json").write_text(json.dumps(stated))
    datalist = index(tmp_path)
    assert datalist["dataset"] == "msd_task01"
    assert datalist["channels"] == [1, 2, 3, 0]
    assert datalist["label_map"] == {"0": 0, "1": 2, "2": 1, "3": 4}
    assert all(isinstance(item["image"], str) for item in items(datalist))
    stated["labels"].update({"1": "necrotic", "2": "edema"})
    (root / "dataset.json").write_text(json.dumps(stated))
    assert "non-enhancing" in refused(tmp_path)


# what label 3 means ----------------------------------------------------------------------------------------


def test_unknown_names_with_label_three_are_refused_until_told(tmp_path, make):
    make.brats(tmp_path, ["one", "two", "three"], values=(1, 2, 3))
    message = refused(tmp_path)
    for expected in ("brats2015", "brats2023", "msd_task01", "--dataset", "non-enhancing", "3 enhancing"):
        assert expected in message
    assert index(tmp_path, dataset="brats2015")["label_map"]["3"] == 1
    assert index(tmp_path, dataset="brats2023")["label_map"]["3"] == 4
    assert index(tmp_path, dataset="msd_task01")["channels"] is None


def test_unknown_names_with_plain_labels_are_accepted(tmp_path, make):
    make.brats(tmp_path, ["one", "two", "three"])
    assert index(tmp_path)["dataset"] == "brats_layout"


def test_label_of_another_release_is_named(tmp_path, make):
    make.brats(tmp_path, [f"BraTS2021_0000{i}" for i in range(3)], values=(1, 2, 3))
    assert "in 2023's files 3 is enhancing" in refused(tmp_path)
    make.brats2023(tmp_path / "other", [f"BraTS-GLI-0000{i}-100" for i in range(3)], values=(1, 2, 3, 4))
    assert "resection cavity" in refused(tmp_path / "other")


def test_two_datasets_in_one_folder(tmp_path, make):
    make.brats2021(tmp_path / "a")
    make.brats2023(tmp_path / "b", [f"BraTS-GLI-0000{i}-000" for i in range(3)])
    assert "brats2021 (3 subjects), brats2023 (3 subjects)" in refused(tmp_path)
    assert len(subjects(index(tmp_path, dataset="brats2023"))) == 3


# bad input -------------------------------------------------------------------------------------------------


def spoil_missing(folder, make):
    (folder / f"{folder.name}_t2.nii.gz").unlink()
    return "no file for t2"


def spoil_empty_folder(folder, make):
    shutil.rmtree(folder)
    folder.mkdir()
    return "no file for t1, t1ce, t2, flair, label"


def spoil_truncated(folder, make):
    path = folder / f"{folder.name}_t1ce.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return "truncated"


def spoil_cut_inside(folder, make):
    path = folder / f"{folder.name}_t1ce.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    return "truncated or not an image"


def spoil_corrupt(folder, make):
    path = folder / f"{folder.name}_t1.nii.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return "_t1.nii.gz"


def spoil_zero_bytes(folder, make):
    (folder / f"{folder.name}_t1.nii.gz").write_bytes(b"")
    return "empty file"


def spoil_not_gzip(folder, make):
    path = folder / f"{folder.name}_t1.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    return "named as gzip-compressed but is uncompressed"


def spoil_text(folder, make):
    (folder / f"{folder.name}_t1.nii.gz").write_bytes(gzip.compress(b"<html>please log in</html>" * 40))
    return "not"


def spoil_nan(folder, make):
    volume = make.brain(dtype=np.float32)
    volume[3, 3, 3] = np.nan
    make.save(folder / f"{folder.name}_t2.nii.gz", volume)
    return "1 voxels are NaN or infinite"


def spoil_infinite(folder, make):
    volume = make.brain(dtype=np.float32)
    volume[3, 3, 3:5] = np.inf
    make.save(folder / f"{folder.name}_t2.nii.gz", volume)
    return "2 voxels are NaN or infinite"


def spoil_zero(folder, make):
    make.save(folder / f"{folder.name}_flair.nii.gz", np.zeros((8, 8, 8), np.int16))
    return "all voxels are zero"


def spoil_label_shape(folder, make):
    make.save(folder / f"{folder.name}_seg.nii.gz", np.pad(make.tumor(), ((0, 0), (0, 0), (0, 1))))
    return "different grids: shape (8, 8, 8) against (8, 8, 9)"


def spoil_label_affine(folder, make):
    affine = make.affine.copy()
    affine[2, 3] = 5
    make.save(folder / f"{folder.name}_seg.nii.gz", make.tumor(), affine)
    return "different grids: affine"


def spoil_sequence_affine(folder, make):
    make.save(folder / f"{folder.name}_t2.nii.gz", make.brain(), 2 * make.affine)
    return "different grids: affine"


def spoil_label_value(folder, make):
    make.save(folder / f"{folder.name}_seg.nii.gz", make.tumor((1, 2, 7)))
    return "label values [7]"


def spoil_label_fraction(folder, make):
    make.save(folder / f"{folder.name}_seg.nii.gz", make.tumor().astype(np.float32) * 0.5)
    return "not whole numbers"


def spoil_label_empty(folder, make):
    make.save(folder / f"{folder.name}_seg.nii.gz", np.zeros((8, 8, 8), np.uint8))
    return "the label is empty"


def spoil_label_elsewhere(folder, make):
    label = np.zeros((8, 8, 8), np.uint8)
    label[0] = 1
    make.save(folder / f"{folder.name}_seg.nii.gz", label)
    return "lie outside the brain"


def spoil_four_dimensions(folder, make):
    make.save(folder / f"{folder.name}_t1.nii.gz", make.brain()[..., None].repeat(2, -1))
    return "a 3D file was expected"


def spoil_twice_one_file(folder, make):
    make.save(folder / f"{folder.name}_t1.nii", make.brain())
    return "2 files for t1"


def spoil_duplicate(folder, make):
    shutil.copytree(folder, folder.parent / "again" / folder.name)
    return "two subjects under one id"


SPOILERS = {name: value for name, value in globals().items() if name.startswith("spoil_")}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_bad_subject_is_refused_and_can_be_skipped(tmp_path, make, spoil):
    folders = make.brats2021(tmp_path / "data", 4)
    expected = spoil(folders[1], make)
    out = tmp_path / "datalist.json"
    message = refused(tmp_path / "data", out=out)
    assert expected in message
    assert "BraTS2021_00001" in message and "1 of 4" in message and "--skip_bad" in message
    assert not out.exists()
    datalist = index(tmp_path / "data", out=out, skip_bad=True)
    assert subjects(datalist) == ["BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"]
    (skipped,) = json.loads(out.read_text())["skipped"]
    assert skipped["subject"] == "BraTS2021_00001" and expected in "; ".join(skipped["why"])


def test_truncated_mha_and_short_nii(tmp_path, make):
    make.brats2015(tmp_path / "a", [f"HGG/brats_2013_pat000{i}_1" for i in range(3)])
    path = next((tmp_path / "a").rglob("*MR_T1c*.mha"))
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in refused(tmp_path / "a")
    make.brats(tmp_path / "b", [f"BraTS20_Training_00{i}" for i in range(3)], suffix=".nii")
    path = next((tmp_path / "b").rglob("*_t1.nii"))
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in refused(tmp_path / "b")


def test_decathlon_channel_of_zeros_and_image_of_three_dimensions(tmp_path, make):
    make.decathlon(tmp_path)
    image = np.stack([make.brain()] * 3 + [0 * make.brain()], axis=-1)
    make.save(tmp_path / "imagesTr" / "BRATS_001.nii.gz", image)
    make.save(tmp_path / "imagesTr" / "BRATS_002.nii.gz", make.brain())
    message = refused(tmp_path)
    assert "channel 3: all voxels are zero" in message and "a 4D file" in message and "2 of 3" in message


def test_all_bad_files_in_one_message_that_stays_short(tmp_path, make, monkeypatch):
    monkeypatch.setattr(indexing, "MOST_LINES", 2)
    for folder in make.brats2021(tmp_path, 4)[:3]:
        (folder / f"{folder.name}_t1.nii.gz").write_bytes(b"")
    message = refused(tmp_path)
    assert "3 of 4 subjects" in message and message.count("empty file") == 2 and "... and 1 more" in message


def test_label_slightly_outside_the_brain_is_a_warning(tmp_path, make):
    folder = make.brats2021(tmp_path)[0]
    label = make.tumor()
    label[0, 0, 0] = 2
    make.save(folder / f"{folder.name}_seg.nii.gz", label)
    assert any("BraTS2021_00000: 1 of 28 labeled voxels" in text for text in index(tmp_path)["warnings"])


def test_folder_without_subjects(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    message = refused(tmp_path)
    for layout in ("BraTS2021_00000", "BraTS-GLI", "imagesTr", "VSD.Brain", "1 files"):
        assert layout in message
    assert "nothing" in refused(tmp_path / "missing")


def test_no_subject_left_and_dataset_without_layout(tmp_path, make):
    (folder,) = make.brats2021(tmp_path, 1)
    assert "left for training" in refused(tmp_path)
    (folder / f"{folder.name}_t1.nii.gz").unlink()
    assert "at least one subject" in refused(tmp_path, skip_bad=True, validation=0, test=0)
    assert "no tumor labels" in refused(tmp_path, dataset="adni")


def test_impossible_split_is_refused_before_reading(tmp_path, make, monkeypatch):
    make.brats2021(tmp_path)
    monkeypatch.setattr(indexing, "check_subject", None)
    assert "at most 3" in refused(tmp_path, test=73)
    assert "random" in refused(tmp_path, split="alphabetical")


# the datalist ----------------------------------------------------------------------------------------------


def test_written_datalist_is_relative_inside_and_absolute_outside(tmp_path, make):
    make.brats2021(tmp_path / "data")
    datalist = index(tmp_path / "data", out=tmp_path / "inside.json")
    inside = json.loads((tmp_path / "inside.json").read_text())
    assert all(not os.path.isabs(path) for item in items(inside) for path in [*item["image"], item["label"]])
    index(tmp_path / "data", out=tmp_path / "lists" / "outside.json")
    outside = json.loads((tmp_path / "lists" / "outside.json").read_text())
    assert items(outside) == items(datalist)
    expected = load_datalist(datalist)
    assert load_datalist(tmp_path / "inside.json") == load_datalist(tmp_path / "lists" / "outside.json") == expected
    shutil.move(tmp_path / "data", tmp_path / "moved" / "data")  # a datalist inside moves with its data
    shutil.move(tmp_path / "inside.json", tmp_path / "moved" / "inside.json")
    assert (
        load_datalist(tmp_path / "moved" / "inside.json")["training"][0]["subject"] == inside["training"][0]["subject"]
    )


def test_monai_reads_the_datalist(tmp_path, make):
    make.brats2021(tmp_path / "data", 5)
    out = tmp_path / "datalist.json"
    index(tmp_path / "data", out=out)
    ours = load_datalist(out)
    for section in SECTIONS:
        theirs = load_decathlon_datalist(out, is_segmentation=True, data_list_key=section)
        assert [(item["image"], item["label"]) for item in theirs] == [
            (item["image"], item["label"]) for item in ours[section]
        ]


def test_split_options_reach_the_datalist(tmp_path, make):
    make.brats2021(tmp_path, 10)
    datalist = index(tmp_path, split="ordered", validation=0)
    ids = [f"BraTS2021_{i:05d}" for i in range(10)]
    assert [item["subject"] for item in datalist["training"]] == ids[:8]
    tests = [index(tmp_path, folds=5, fold=fold, seed=3)["test"] for fold in range(5)]
    assert sorted(item["subject"] for part in tests for item in part) == ids
    assert index(tmp_path, seed=7)["split"] == {"mode": "random", "seed": 7, "validation": 0.1, "test": 0.2}
    assert [i["subject"] for i in index(tmp_path, seed=7)["test"]] == split_subjects(reversed(ids), seed=7)["test"]


def test_same_patient_file(tmp_path, make):
    make.brats2021(tmp_path / "data", 4)
    table = tmp_path / "same.json"
    table.write_text(json.dumps({"p": ["BraTS2021_00000", "BraTS2021_00001", "BraTS2021_00002"]}))
    datalist = index(tmp_path / "data", same_patient=table, validation=0, test=1)
    assert [item["subject"] for item in datalist["test"]] == ["BraTS2021_00003"]
    assert datalist["training"][0]["patient"] == "p"


# the cache -------------------------------------------------------------------------------------------------


def test_second_index_reads_nothing_and_a_changed_file_is_read_again(tmp_path, make, monkeypatch):
    folders = make.brats2021(tmp_path / "data", 4)
    first = index(tmp_path / "data")
    read = []
    check = indexing.check_subject
    monkeypatch.setattr(indexing, "check_subject", lambda files, _: read.append(files["label"].parent) or check(files))
    assert index(tmp_path / "data") == first
    assert read == []
    (folders[2] / f"{folders[2].name}_t1.nii.gz").write_bytes(b"")
    assert "empty file" in refused(tmp_path / "data")
    assert read == [folders[2]]
    assert "empty file" in refused(tmp_path / "data")  # bad results are not kept
    assert read == [folders[2]] * 2
    index(tmp_path / "data", skip_bad=True, use_cache=False)
    assert len(read) == 6


def test_cache_that_cannot_be_read_or_written_is_no_obstacle(tmp_path, make, monkeypatch):
    make.brats2021(tmp_path / "data")
    index(tmp_path / "data")
    (cache,) = (Path(os.environ["MRSYNTH_HOME"]) / "index").glob("*.json")
    cache.write_text("{ broken")
    assert len(subjects(index(tmp_path / "data"))) == 3
    (tmp_path / "file").write_text("a file where the home should be")
    monkeypatch.setenv("MRSYNTH_HOME", str(tmp_path / "file"))
    assert len(subjects(index(tmp_path / "data"))) == 3


# real data -------------------------------------------------------------------------------------------------


@pytest.mark.skipif("MRSYNTH_TEST_DATA" not in os.environ, reason="MRSYNTH_TEST_DATA names no folder of real subjects")
def test_real_subjects(tmp_path):
    out = tmp_path / "datalist.json"
    datalist = index(os.environ["MRSYNTH_TEST_DATA"], out=out)
    assert datalist["skipped"] == []
    assert load_datalist(out) == load_datalist(datalist)
