"""Do synthetic subjects help a segmenter? Trainings on real and synthetic sets, judged on real test subjects."""

from mrsynth.study.study import Study

__all__ = ["Study"]
