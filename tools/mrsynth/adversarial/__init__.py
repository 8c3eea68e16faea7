"""The game: objectives, constraints, schedules, rounds, extra terms, and the trainer that plays it."""

from mrsynth.adversarial.augmented import AugmentedCritic
from mrsynth.adversarial.constraints import Constraint, GradientPenalty, MatchingAware, WeightClipping
from mrsynth.adversarial.local import LocalCritic
from mrsynth.adversarial.objectives import Hinge, LeastSquares, NonSaturating, Objective, Wasserstein
from mrsynth.adversarial.rounds import ClassRound, LatentRound, Play, TranslationRound, TransplantRound
from mrsynth.adversarial.schedules import Alternating, CriticSteps, Moves, Together
from mrsynth.adversarial.terms import L1, FeatureMatching, Term
from mrsynth.adversarial.trainer import GameEvents, TwoPlayerTrainer

__all__ = [
    "L1",
    "Alternating",
    "AugmentedCritic",
    "ClassRound",
    "Constraint",
    "CriticSteps",
    "FeatureMatching",
    "GameEvents",
    "GradientPenalty",
    "Hinge",
    "LatentRound",
    "LeastSquares",
    "LocalCritic",
    "MatchingAware",
    "Moves",
    "NonSaturating",
    "Objective",
    "Play",
    "Term",
    "Together",
    "TranslationRound",
    "TransplantRound",
    "TwoPlayerTrainer",
    "Wasserstein",
    "WeightClipping",
]
