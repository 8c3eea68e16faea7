"""Datasets: their cards, indexing of downloaded folders, splits by subject, lineage of synthetic subjects."""

from mrsynth.manifest.cards import Card, card_ids, load_card
from mrsynth.manifest.datalist import (
    evaluation_subjects,
    load_datalist,
    resolve_datalist,
    training_datalist,
    training_subjects,
)
from mrsynth.manifest.indexing import index, summary, write_datalist
from mrsynth.manifest.lineage import check_lineage, check_overlap, held_out, in_section, patients_of, with_ancestors
from mrsynth.manifest.patients import read_patients
from mrsynth.manifest.splits import SECTIONS, split_subjects

__all__ = [
    "SECTIONS",
    "Card",
    "card_ids",
    "check_lineage",
    "check_overlap",
    "evaluation_subjects",
    "held_out",
    "in_section",
    "index",
    "load_card",
    "load_datalist",
    "patients_of",
    "read_patients",
    "resolve_datalist",
    "split_subjects",
    "summary",
    "training_datalist",
    "training_subjects",
    "with_ancestors",
    "write_datalist",
]
