"""The game: objectives, constraints, schedules, rounds, extra terms, and the trainer that plays it."""

from mrsynth.adversarial.augmented import AugmentedDiscriminator
from mrsynth.adversarial.constraints import Constraint, GradientPenalty, MatchingAware, WeightClipping
from mrsynth.adversarial.local import LocalDiscriminator
from mrsynth.adversarial.objectives import Hinge, LeastSquares, NonSaturating, Objective, Wasserstein
from mrsynth.adversarial.rounds import ClassRound, GameBatch, LatentRound, TranslationRound, TransplantRound
from mrsynth.adversarial.schedules import Alternating, DiscriminatorSteps, Moves, Simultaneous
from mrsynth.adversarial.terms import L1, FeatureMatching, Term
from mrsynth.adversarial.trainer import GameEvents, TwoPlayerTrainer

__all__ = [
    "L1",
    "Alternating",
    "AugmentedDiscriminator",
    "ClassRound",
    "Constraint",
    "DiscriminatorSteps",
    "FeatureMatching",
    "GameBatch",
    "GameEvents",
    "GradientPenalty",
    "Hinge",
    "LatentRound",
    "LeastSquares",
    "LocalDiscriminator",
    "MatchingAware",
    "Moves",
    "NonSaturating",
    "Objective",
    "Simultaneous",
    "Term",
    "TranslationRound",
    "TransplantRound",
    "TwoPlayerTrainer",
    "Wasserstein",
    "WeightClipping",
]
