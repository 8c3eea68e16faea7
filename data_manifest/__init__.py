"""Dataset cards, as JSON; see ``mrsynth.manifest``."""
