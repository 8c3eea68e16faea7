"""Cards: complete, parseable, and the three meanings of label 3 told apart."""

import re

import pytest

from mrsynth.conventions import LABELS, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.manifest import card_ids, load_card

NEEDED = {
    *("name", "anatomy", "route", "registration", "license", "citation", "folders", "example", "files"),
    *("channels", "label_map", "labels", "foreign_labels", "grid", "expected", "notes"),
}


@pytest.mark.parametrize("card_id", card_ids())
def test_card_is_complete(card_id):
    card = load_card(card_id)
    assert card.id == card_id
    assert set(card.about) >= NEEDED
    assert {"name", "forbids"} <= set(card.about["license"])
    if card.label_map:
        assert set(card.label_map.values()) <= set(LABELS)
        assert card.label_map[0] == 0
        assert {str(value) for value in card.label_map if value} == set(card.about["labels"])
    if card.indexable:
        assert set(card.kinds) in ({*SEQUENCES, "label"}, {"image", "label"})
        assert card.about["example"]


def test_every_dataset_of_the_papers_has_a_card():
    wanted = "brats2015 brats2016 msd_task01 brats2018 brats2019 brats2020 brats2021 brats2023 adni phantom"
    breasts = "ambl mama_mia duke odelia"
    assert set(f"{wanted} {breasts}".split()) <= set(card_ids())


def test_label_three_means_three_things():
    assert load_card("brats2015").label_map[3] == 1  # non-enhancing
    assert load_card("brats2023").label_map[3] == 4  # enhancing
    assert load_card("msd_task01").label_map == {0: 0, 1: 2, 2: 1, 3: 4}
    for year in (2018, 2019, 2020, 2021):
        assert 3 not in load_card(f"brats{year}").label_map


def test_no_card_of_one_release_matches_another():
    examples = {
        "brats2018": "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t1ce.nii.gz",
        "brats2019": "LGG/BraTS19_TCIA10_103_1/BraTS19_TCIA10_103_1_seg.nii.gz",
        "brats2020": "BraTS20_Training_369/BraTS20_Training_369_flair.nii",
        "brats2021": "BraTS2021_01666/BraTS2021_01666_t2.nii.gz",
        "brats2023": "BraTS-GLI-01666-000/BraTS-GLI-01666-000-t2f.nii.gz",
        "brats2015": "LGG/brats_tcia_pat101_0001/VSD.Brain.XX.O.MR_T1c.1/VSD.Brain.XX.O.MR_T1c.1.mha",
        "msd_task01": "Task01_BrainTumour/imagesTr/BRATS_484.nii.gz",
        "phantom": "Phantom_00019/Phantom_00019_t1.nii.gz",
    }
    for card_id, path in examples.items():
        matching = [i for i in card_ids() if any(p.match(path) for p in load_card(i).patterns)]
        assert [i for i in matching if i != "brats_layout"] == [card_id]


def test_unknown_card_is_refused_with_the_list():
    with pytest.raises(UserError, match=re.escape("brats2021")):
        load_card("brats1999")
