"""A bundle's programs at their smallest: reads and writes the files that a bundle's run does, in a blink.

Called as ``python -m monai.bundle run`` is. Its options say how it is to behave: ``fail`` to end badly, ``sleep``
seconds an iteration, ``stranger`` a subject to claim as parent or as training subject, ``ignores`` the number of
iterations to make whatever it is told, ``spoil`` to score one subject only, ``until`` a file to wait for.
"""

import csv
import hashlib
import json
import os
import sys
import time
from pathlib import Path


def main(run_id: str, options: dict[str, str]) -> None:
    out = Path(options["output_dir"])
    datalist = json.loads(Path(options["datalist"]).read_text(encoding="utf-8"))
    print(f"{run_id} with {os.environ['OMP_NUM_THREADS']} threads", flush=True)
    if options.get("fail"):
        sys.exit("this one fails")
    {"training": train, "synthesize": synthesize, "evaluate": evaluate}[run_id](out, datalist, options)


def train(out: Path, datalist: dict, options: dict[str, str]) -> None:
    state = out / "models" / "checkpoint.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    value = json.loads(state.read_text()) if state.is_file() and options.get("resume") == "True" else [0, ""]
    print(f"starting after iteration {value[0]}", flush=True)
    subjects = sorted(i for item in datalist["training"] for i in [item["subject"], *item.get("derived_from", [])])
    subjects += [options["stranger"]] if "stranger" in options else []
    told = {k: v for k, v in options.items() if k in ("seed", "augmentation", "max_iterations")}
    iterations = int(options.get("ignores") or options.get("max_iterations", 2))
    while "until" in options and not Path(options["until"]).is_file():
        time.sleep(0.05)
    for iteration in range(value[0], iterations):
        time.sleep(float(options.get("sleep", 0)))
        value = [iteration + 1, hashlib.sha256(f"{value[1]} {subjects} {told}".encode()).hexdigest()]
        state.write_text(json.dumps(value))
    weights = out / "models" / "model.pt"
    weights.write_text(value[1])
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.with_suffix(".json").write_text(
        json.dumps({digest: {"subjects": sorted(set(subjects)), "settings": {"iterations": iterations}}})
    )


def synthesize(out: Path, datalist: dict, options: dict[str, str]) -> None:
    parents = datalist["training"]
    weights = Path(options["weights"]) if "weights" in options else None
    seen = next(iter(json.loads(weights.with_suffix(".json").read_text()).values()))["subjects"] if weights else []
    seen = seen + ([options["stranger"]] if "stranger" in options else [])
    tag = hashlib.sha256(f"{options.get('weights')}".encode()).hexdigest()[:6]
    items = []
    for number in range(int(options["count"])):
        pair = [parents[number % len(parents)], parents[(number + 1) % len(parents)]]
        derived = list(dict.fromkeys([item["subject"] for item in pair] + seen))
        items.append({**pair[0], "subject": f"Synthetic_{tag}_{number:05d}", "derived_from": derived})
    (out / "synthetic").mkdir(parents=True, exist_ok=True)
    content = {"training": items, "validation": [], "test": []}
    (out / "synthetic" / "datalist.json").write_text(json.dumps(content))


def evaluate(out: Path, datalist: dict, options: dict[str, str]) -> None:
    folder = out / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    time.sleep(float(options.get("sleep", 0)))
    with open(folder / "per_subject.csv", "w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["subject", "region", "dice", "hd95", "sensitivity", "precision"])
        for item in datalist["test"][: 1 if options.get("spoil") else None]:
            for region in ("WT", "TC", "ET"):
                seed = f"{Path(options['weights']).read_text()} {item['subject']} {region}"
                score = int(hashlib.sha256(seed.encode()).hexdigest()[:6], 16) / 0xFFFFFF
                lines.writerow([item["subject"], region, score, "", score, score])
    (folder / "metrics.json").write_text("{}")


if __name__ == "__main__":
    flags = sys.argv[2:]
    main(sys.argv[1], {key[2:]: value.strip("'") for key, value in zip(flags[::2], flags[1::2], strict=True)})
