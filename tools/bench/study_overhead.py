"""What a study costs beside its trainings and evaluations: its wall time against the sum of its steps, one at a time.

Runs one row of tumor3d's study with the U-Net on the embedded cohort, a few iterations, in a temporary folder:

    python tools/bench/study_overhead.py --iterations 20
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d" / "configs" / "study.json"


def main() -> None:
    """Run the study and print the ratio."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--iterations", type=int, default=20)
    iterations = arguments.parse_args().iterations
    with tempfile.TemporaryDirectory() as folder:
        one_segmenter = Path(folder) / "unet3d.json"
        options = {"segmenters": {"unet3d": {"bundle": "bundles/unet3d", "options": "@unet3d_options"}}}
        one_segmenter.write_text(json.dumps(options), encoding="utf-8")
        command = [sys.executable, "-m", "monai.bundle", "run", "study"]
        command += ["--config_file", f"['{CONFIG}','{one_segmenter}']", "--output_dir", f"{folder}/study"]
        command += ["--rows", "['Real']", "--baseline", "None", "--parallel", "1", "--max_iterations", str(iterations)]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - began
        (record,) = (Path(folder) / "study" / "runs").glob("*.json")
        run = json.loads(record.read_text(encoding="utf-8"))["run"]
    steps, wall = run["step_seconds"], run["wall_seconds"]
    print(f"trainings and evaluations {steps:.1f} s; the study around them {wall:.1f} s: {wall / steps - 1:.1%} more")
    print(f"with its start, the reading of the data and the report {whole:.1f} s: {whole / steps - 1:.1%} more")


if __name__ == "__main__":
    main()
