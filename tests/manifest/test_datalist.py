"""Reading datalists, and the lineage of what is in them."""

import json

import pytest

from mrsynth.errors import UserError
from mrsynth.manifest import check_lineage, check_overlap, load_datalist, patients_of, resolve_datalist


@pytest.fixture
def content(tmp_path):
    """A datalist of three subjects whose (empty) files lie beside it."""

    def item(subject):
        names = [f"{subject}_{sequence}.nii.gz" for sequence in ("t1", "t1ce", "t2", "flair")]
        for name in [*names, f"{subject}_seg.nii.gz"]:
            (tmp_path / name).touch()
        return {"image": names, "label": f"{subject}_seg.nii.gz", "subject": subject}

    return {
        "modality": {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"},
        "label_map": {"0": 0, "1": 1, "2": 2, "3": 4},
        "channels": None,
        "training": [item("A")],
        "validation": [item("B")],
        "test": [item("C")],
    }


@pytest.fixture
def load(tmp_path):
    def write_and_load(content, **options):
        path = tmp_path / "datalist.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load_datalist(path, **options)

    return write_and_load


def refused(load, content, **options):
    with pytest.raises(UserError) as error:
        load(content, **options)
    return str(error.value)


def test_items_are_complete_in_themselves(content, load, tmp_path):
    content["test"][0]["grade"] = "HGG"
    content["test"][0]["label_map"] = {"0": 0, "1": 2}
    parts = load(content)
    (item,) = parts["training"]
    assert item["image"][0] == str(tmp_path / "A_t1.nii.gz")
    assert item["label"] == str(tmp_path / "A_seg.nii.gz")
    assert item["label_map"] == {0: 0, 1: 1, 2: 2, 3: 4}
    assert item["channels"] is None and item["subject"] == "A"
    assert parts["test"][0]["grade"] == "HGG"
    assert parts["test"][0]["label_map"] == {0: 0, 1: 2}
    assert parts["training"][0]["label_map"] is not parts["validation"][0]["label_map"]


def test_label_map_defaults_to_identity_and_sections_can_be_chosen(content, load):
    del content["label_map"], content["validation"], content["channels"]
    parts = load(content, sections=("training",))
    assert list(parts) == ["training"]
    assert parts["training"][0]["label_map"] == {0: 0, 1: 1, 2: 2, 4: 4}


def test_faults_are_named(content, load, tmp_path):
    assert "not JSON" in refused(load, "{")
    assert "JSON list" in refused(load, "[]")
    assert "no such file" in refused(lambda _: load_datalist(tmp_path / "none.json"), None)
    assert "a folder" in refused(lambda _: load_datalist(tmp_path), None)
    assert "'validation'" in refused(load, {k: v for k, v in content.items() if k != "validation"})
    assert "none of training" in refused(load, {})
    broken = {
        **content,
        "training": [{"subject": "A"}, {"image": "a.nii.gz"}, "a.nii.gz", {"image": ["a", "b"], "subject": "D"}],
        "test": [{"image": [1], "label": 3, "derived_from": "A", "subject": "E"}],
    }
    message = refused(load, broken)
    for expected in (
        "training[0] (A) has no 'image'",
        "training[1] has no 'subject'",
        "training[2] is not an object",
        "has 2 image files where 'modality' has 4",
        "test[0] (E) has no 'image'",
        "'label' that is not a path",
        "'derived_from' that is not a list",
        "7 faults",
    ):
        assert expected in message
    assert "is not a list" in refused(load, {**content, "test": 3})
    assert "maps onto [3]" in refused(load, {**content, "label_map": {"3": 3}})
    assert "label_map" in refused(load, {**content, "label_map": [1]})
    assert "channel numbers" in refused(load, {**content, "channels": ["t1"]})
    (tmp_path / "B_t2.nii.gz").unlink()
    assert "B: no such file" in refused(load, content)


def test_resolve(content, tmp_path, make):
    make.brats2021(tmp_path / "data")
    assert len(resolve_datalist(dataset_dir=tmp_path / "data", test=1, validation=0)["training"]) == 2
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    parts = resolve_datalist(dataset_dir=tmp_path / "data", datalist=tmp_path / "datalist.json")
    assert parts["training"][0]["subject"] == "A"
    with pytest.raises(UserError, match="neither"):
        resolve_datalist()


# lineage ---------------------------------------------------------------------------------------------------


def lists(training=(), validation=(), test=()):
    """Items from ``"id"`` or ``("id", parents)`` or ``("id", parents, patient)``."""

    def item(entry):
        subject, *rest = (entry,) if isinstance(entry, str) else entry
        made = {"image": f"{subject}.nii.gz", "subject": subject}
        if rest and rest[0]:
            made["derived_from"] = rest[0]
        if len(rest) > 1:
            made["patient"] = rest[1]
        return made

    parts = {"training": training, "validation": validation, "test": test}
    return {section: [item(entry) for entry in part] for section, part in parts.items()}


def test_sound_lineage_passes():
    check_lineage(lists(["A", "B", ("S", ["A", "B"]), ("T", ["S", "elsewhere"])], ["C"], ["D"]))
    check_lineage(lists([("A", None, "P"), ("A2", None, "P")], [], ["D"]))
    check_lineage({"training": [], "validation": [], "test": []})


@pytest.mark.parametrize(
    ("datalist", "names"),
    [
        (lists(["A", ("S", ["A", "C"])], [], ["C"]), "S in training is made from C, who is in test"),
        (lists(["A", ("S", ["A", "B"])], ["B"], []), "S in training is made from B, who is in validation"),
        (lists(["A", ("S", ["T"]), ("T", ["C"])], [], ["C"]), "S in training is made from C, who is in test"),
        (lists(["A"], [("S", ["A"])], []), "S in validation is made from A, who is in training"),
        (lists(["A"], [], [("S", ["X"])]), "S in test is synthetic"),
        (lists(["A"], [], ["A"]), "A in test is in training"),
        (lists([("A", None, "P")], [], [("B", None, "P")]), "B in test is the same patient as A"),
        (lists([("A", None, "P"), ("S", ["A"])], ["V"], [("B", None, "Q")]), None),
    ],
)
def test_leaks_are_refused_by_name(datalist, names):
    if names is None:
        return check_lineage(datalist)
    with pytest.raises(UserError, match=names):
        check_lineage(datalist)


def test_patients_are_seen_through_their_names():
    datalist = lists(["A", ("S", ["BraTS19_X"])], [], [("BraTS20_X", None, "X")])
    check_lineage(datalist)
    with pytest.raises(UserError, match="S in training is made from BraTS19_X, who is in test"):
        check_lineage(datalist, patients={"BraTS19_X": "X"})


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("spelling", ["A_{}.nii.gz", "./A_{}.nii.gz", "below/../A_{}.nii.gz", "{folder}/A_{}.nii.gz"])
def test_a_file_under_two_ids_is_refused_however_it_is_spelt(content, load, tmp_path, key, spelling):
    kind = {"image": "t1", "label": "seg"}[key]
    again = spelling.format(kind, folder=tmp_path)
    (tmp_path / "below").mkdir()
    content["test"][0][key] = again if key == "label" else [again, *content["test"][0]["image"][1:]]
    file = tmp_path / f"A_{kind}.nii.gz"
    assert f"C in test is the same file as A ({file}), which is in training" in refused(load, content)


def test_files_of_one_name_in_two_folders_are_two():
    datalist = lists(["A"], [], ["B"])
    datalist["training"][0]["image"], datalist["test"][0]["image"] = ["a/t1.nii.gz"], ["b/t1.nii.gz"]
    check_lineage(datalist)


def test_cycles_end():
    check_lineage(lists([("S", ["T"]), ("T", ["S"])]))


def test_load_datalist_checks_lineage_of_all_sections(content, load):
    content["training"][0]["derived_from"] = ["C"]
    assert "A in training is made from C" in refused(load, content, sections=("training",))


def items(*subjects, **patients):
    return [{"subject": i} for i in subjects] + [{"subject": i, "patient": p} for i, p in patients.items()]


def test_overlap_of_weights_and_test_part():
    check_overlap({"subjects": ["A", "B"]}, items("C"), "model.pt")
    check_overlap({"subjects": []}, [], "model.pt")
    with pytest.raises(UserError, match=r"2 were in their training.*A, B") as error:
        check_overlap({"subjects": ["B", "A", "C"]}, iter(items("A", "B", "D")), "model.pt")
    assert "model.pt" in str(error.value)
    with pytest.raises(UserError, match=r"and 80 more"):
        check_overlap({"subjects": list(map(str, range(100)))}, items(*map(str, range(100))))


def test_another_scan_of_a_patient_whom_the_weights_have_seen_is_an_overlap():
    record = {"subjects": ["X_2019", "Y"], "patients": {"X_2019": "X"}}
    check_overlap(record, items("X", Z_2020="Z"))  # a subject's name is no patient's
    with pytest.raises(UserError, match="X_2020") as error:
        check_overlap(record, items("Z", X_2020="X"))
    assert "Z" not in error.value.found
    with pytest.raises(UserError, match="X_2019, X_2020"):  # the items may know what the record does not
        check_overlap({"subjects": ["X_2019"]}, items(X_2019="X", X_2020="X"))


def test_patients_are_those_that_the_items_name():
    assert patients_of(lists([("A", None, "P"), "B"], [], [("C", ["A"], "Q")])) == {"A": "P", "C": "Q"}


def test_the_training_s_datalist_is_the_last_resort(content, load, tmp_path):
    load(content)  # writes datalist.json
    assert resolve_datalist("", None, output_dir=tmp_path)["test"][0]["subject"] == "C"
    content["test"][0]["subject"] = "D"
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert resolve_datalist("", tmp_path / "other.json", output_dir=tmp_path)["test"][0]["subject"] == "D"
    with pytest.raises(UserError, match="nowhere"):
        resolve_datalist(tmp_path / "nowhere", None, output_dir=tmp_path)
    with pytest.raises(UserError, match="neither"):
        resolve_datalist("", None, output_dir=tmp_path / "empty")
