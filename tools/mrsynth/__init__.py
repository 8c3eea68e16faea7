"""mrsynth: what every synthetic-MRI bundle of this project is built of.

The rooms, lower ones never importing higher ones: ``manifest`` (datasets, splits, lineage), ``transforms``
and ``phantom``, ``networks``, ``training`` (how any run is started, watched, saved and resumed),
``adversarial`` (the two-player game), ``metrics``, ``synthesis``, and the command line ``python -m mrsynth``.
"""

__version__ = "0.1.0"
