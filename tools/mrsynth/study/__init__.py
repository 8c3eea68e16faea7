"""Do synthetic subjects help a segmenter? Trainings on real and synthetic sets, judged on real test subjects; and the
experiments of a paper on images, side by side."""

from mrsynth.study.experiments import Experiments
from mrsynth.study.study import Study

__all__ = ["Experiments", "Study"]
