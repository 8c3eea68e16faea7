"""Dataset cards and the splits of the papers, as JSON; see ``mrsynth.manifest``."""
