"""Times a bundle's networks in onnxruntime on one thread, to set tract's times against.

    bench_onnxruntime.py BUNDLE [--rounds N] [--json]

For each network: time to load, median and 95th percentile of a run, in milliseconds. The embedder's float graph is
timed too where the recipe has left it (models/.build/embedder-float.onnx). Run with models/.build/venv/bin/python.
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np

from recipe.runtime import session

FLOAT_GRAPH = Path(__file__).resolve().parent / ".build" / "embedder-float.onnx"
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    table = tomllib.loads((args.bundle / "bundle.toml").read_text())
    entries = [table["embedder"], table["detector"], *table.get("liveness", [])]
    files = [args.bundle / entry["file"] for entry in entries]
    if FLOAT_GRAPH.exists():
        files.insert(1, FLOAT_GRAPH)
    results = [measure(file, args.rounds) for file in files]
    if args.json:
        print(json.dumps({"rounds": args.rounds, "threads": 1, "networks": results}))
        return
    print(f"{'onnxruntime, 1 thread':<24} {'load ms':>8} {'median ms':>10} {'p95 ms':>8}")
    for line in results:
        print(f"{line['file']:<24} {line['load_ms']:>8.1f} {line['median_ms']:>10.2f} {line['p95_ms']:>8.2f}")


def measure(file: Path, rounds: int) -> dict:
    start = time.perf_counter()
    network = session(str(file))
    load = time.perf_counter() - start
    source = network.get_inputs()[0]
    # Seeded noise: the time of these networks does not depend on the values.
    values = np.random.default_rng(1).uniform(-1, 1, source.shape).astype(np.float32)
    times = []
    for at in range(WARM_UP + rounds):
        start = time.perf_counter()
        network.run(None, {source.name: values})
        if at >= WARM_UP:
            times.append(time.perf_counter() - start)
    return {
        "file": file.name,
        "load_ms": load * 1e3,
        "median_ms": float(np.median(times)) * 1e3,
        "p95_ms": float(np.percentile(times, 95)) * 1e3,
    }


if __name__ == "__main__":
    main()
