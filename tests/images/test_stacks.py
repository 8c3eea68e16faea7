"""Images drawn from stacks: classes, seeds, and what is refused."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from mrsynth.images import ImageDataset, SubjectImages, latent_vector, slice_classes, slice_stacks, validation_stacks
from mrsynth.images.latents import LatentDataset
from mrsynth.training import ClassSampler, Draw, SeededDataset

SEQUENCES = ["t1", "flair"]


def cut(subject: str, tumor: list[bool]) -> dict:
    count = len(tumor)
    slices = torch.arange(count * 2 * 16, dtype=torch.float32).reshape(count, 2, 4, 4) / 1000
    return {
        "subject": subject,
        "slices": MetaTensor(slices.half()),
        "numbers": list(range(10, 10 + count)),
        "tumor": tumor,
    }


def test_pooled_each_sequence_is_an_image_and_stacked_all_are_its_channels():
    subjects = [cut("A", [False, True]), cut("B", [True])]
    pooled = ImageDataset(slice_stacks(subjects, SEQUENCES))
    assert len(pooled) == 6 and pooled[0]["image"].shape == (1, 4, 4) and pooled[0]["image"].dtype == torch.float32
    assert [pooled[i]["name"] for i in range(3)] == ["010 t1", "010 flair", "011 t1"]
    assert [pooled[i]["subject"] for i in range(6)] == ["A"] * 4 + ["B"] * 2
    stacked = ImageDataset(slice_stacks(subjects, SEQUENCES, pooled=False))
    assert len(stacked) == 3 and stacked[0]["image"].shape == (2, 4, 4)
    assert torch.equal(stacked[1]["image"][1:], pooled[3]["image"])


@pytest.mark.parametrize(
    ("condition", "classes"),
    [("none", [0, 0, 0, 0]), ("tumor", [0, 0, 1, 1]), ("sequence", [0, 1, 0, 1]), ("both", [0, 2, 1, 3])],
)
def test_a_class_says_what_it_was_asked_to(condition, classes):
    dataset = ImageDataset(slice_stacks([cut("A", [False, True])], SEQUENCES, condition=condition))
    assert [dataset[i]["class"] for i in range(4)] == classes == dataset.classes
    assert len(slice_classes(SEQUENCES, condition)) == max(classes) + 1


def test_a_class_without_an_image_and_an_unknown_condition_are_refused(refused):
    with refused(expected="each class", found="['no tumor']"):
        slice_stacks([cut("A", [True])], SEQUENCES, condition="tumor")
    with refused(expected="none", found="'grade'"):
        slice_classes(SEQUENCES, "grade")
    with refused(where="condition"):
        slice_stacks([cut("A", [True, False])], SEQUENCES, pooled=False, condition="both")


def test_images_of_two_sizes_and_no_images_are_refused(refused):
    small, large = (SubjectImages(name, torch.zeros(2, 1, n, n), [0, 0], ["", ""]) for name, n in (("A", 4), ("B", 8)))
    with refused(expected="one size", found="8"):
        ImageDataset([small, large])
    with refused(found="no images"):
        ClassSampler(ImageDataset([]).classes)


def test_mirroring_is_a_function_of_seed_epoch_and_item():
    stacks = slice_stacks([cut("A", [False] * 8)], SEQUENCES)
    plain = ImageDataset(stacks)
    one, same, other = (ImageDataset(stacks, flip=True, seed=seed) for seed in (1, 1, 2))
    draws = [Draw(3, i) for i in range(16)]
    mirrored = [not torch.equal(one[d]["image"], plain[d]["image"]) for d in draws]
    assert 0 < sum(mirrored) < 16
    assert all(
        torch.equal(one[d]["image"], plain[d]["image"].flip(-1)) == m for d, m in zip(draws, mirrored, strict=True)
    )
    assert all(torch.equal(one[d]["image"], same[d]["image"]) for d in draws)
    assert any(not torch.equal(one[d]["image"], other[d]["image"]) for d in draws)
    assert any(not torch.equal(one[Draw(3, i)]["image"], one[Draw(4, i)]["image"]) for i in range(16))


def test_one_channel_can_be_three():
    dataset = ImageDataset(slice_stacks([cut("A", [True])], ["flair", "t1"]), repeat=3)
    image = dataset[0]["image"]
    assert image.shape == (3, 4, 4) and torch.equal(image[0], image[2])


def test_a_sample_has_no_image_twice_and_knows_classes():
    dataset = ImageDataset(slice_stacks([cut("A", [False, True, True])], SEQUENCES, condition="tumor"))
    assert len(dataset.sample(4, seed=0).flatten(1).unique(dim=0)) == 4
    assert len(dataset.sample(None, seed=0, of_class=0)) == 2
    assert torch.equal(dataset.sample(3, 5), dataset.sample(3, 5))


def test_classes_are_drawn_equally_rarer_ones_several_times():
    classes = [0] * 20 + [1] * 5 + [2] * 2
    sampler = ClassSampler(classes, seed=1)
    draws = sampler.draws()
    counts = [sum(classes[d.number] == kind for d in draws) for kind in range(3)]
    assert counts == [9, 9, 9] and len(sampler) == 27
    assert len({(d.number, d.turn) for d in draws}) == 27
    assert {d.number for d in draws if classes[d.number] == 2} == {25, 26}
    first = list(sampler)
    sampler.set_epoch(2)
    assert list(sampler) != first
    sampler.set_epoch(1)
    assert list(sampler) == first


def test_a_latent_is_a_function_of_seed_and_number_and_carries_its_class():
    assert torch.equal(latent_vector(8, 3, 5), latent_vector(8, 3, 5)) and not torch.equal(
        latent_vector(8, 3, 5), latent_vector(8, 3, 6)
    )
    both = latent_vector(8, 3, 5, of_class=1, classes=3)
    assert torch.equal(both[:8], latent_vector(8, 3, 5)) and both[8:].tolist() == [0, 1, 0]
    dataset = LatentDataset(8, 2, classes=2, seed=3, done={1})
    assert [(item["number"], item["class"]) for item in (dataset[i] for i in range(3))] == [(0, 0), (2, 1), (3, 1)]
    noise = torch.stack([latent_vector(64, 0, n) for n in range(200)])
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03


def test_where_few_subjects_validate_those_of_the_training_help():
    def stacks(names, classes):
        return [SubjectImages(name, torch.zeros(len(classes), 1, 2, 2), classes, [""] * len(classes)) for name in names]

    training, many, few = stacks("XY", [0, 1]), stacks("ABCDE", [0, 0, 1, 1]), stacks("ABCD", [0] * 9 + [1] * 9)
    assert validation_stacks(many, training, 2) == many
    assert validation_stacks(few, training, 2) == [*few, *training]  # four subjects
    assert validation_stacks(many, training, 3) == [*many, *training]  # a class without an image
    assert validation_stacks([], training) == training


def test_no_subjects_have_no_stacks():
    assert slice_stacks(SeededDataset([], []).subjects, SEQUENCES) == []
