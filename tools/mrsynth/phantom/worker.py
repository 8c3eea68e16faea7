"""A child process of `mrsynth.phantom.cohort`: writes some subjects, reports each as a line of JSON.

``python -m mrsynth.phantom.worker FOLDER SEED SPACING INDEX,INDEX,...``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mrsynth.errors import UserError
from mrsynth.phantom.cohort import write_subject


def main(folder: str, seed: str, spacing: str, indices: str) -> int:
    try:
        for index in map(int, indices.split(",")):
            write_subject(Path(folder), index, int(seed), float(spacing))
            print(json.dumps({"made": index}), flush=True)
    except UserError as error:
        found = {"expected": error.expected, "found": error.found, "where": error.where, "do": error.do}
        print(json.dumps({"error": found}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
