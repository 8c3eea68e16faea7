"""A child process of `mrsynth.phantom.pool`: writes some subjects, reports each as a line of JSON.

What to do comes pickled on standard input: the function that writes one subject, and the list of indices.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys

from mrsynth.errors import UserError


def main() -> int:
    # stopped by its parent alone, and as an exception, so that nothing half written stays behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    write, indices = pickle.load(sys.stdin.buffer)
    try:
        for index in indices:
            write(index)
            print(json.dumps({"made": index}), flush=True)
    except UserError as error:
        found = {"expected": error.expected, "found": error.found, "where": error.where, "do": error.do}
        print(json.dumps({"error": found}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
