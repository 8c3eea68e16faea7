"""The constants of the field: sequence order, label values, tumor regions. One place, imported by all.

Labels are those of BraTS 2020/2021; dataset cards (``data_manifest/``) say how another release's values map
onto them.
"""

SEQUENCES = ("t1", "t1ce", "t2", "flair")
"""Order of the channels of every 4-sequence image in this project."""

BACKGROUND, CORE, EDEMA, ENHANCING = 0, 1, 2, 4
"""Label values: background, necrotic and non-enhancing tumor core, peritumoral edema, enhancing tumor."""

LABELS = (BACKGROUND, CORE, EDEMA, ENHANCING)

REGIONS = {"WT": (CORE, EDEMA, ENHANCING), "TC": (CORE, ENHANCING), "ET": (ENHANCING,)}
"""The three nested regions that BraTS scores: whole tumor, tumor core, enhancing tumor."""

PHANTOM_PREFIX = "Phantom_"
"""How the id of every subject of the embedded brain cohort begins."""
