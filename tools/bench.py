"""Times familiar's stages (tract) and the same ONNX files in onnxruntime, one after the other, on one thread each.

    python bench.py FAMILIAR BUNDLE TRUST ONNXRUNTIME_PYTHON

Prints Markdown tables, as docs/measurements.md has them. A stage of familiar also scales and cuts the picture
and reads the network's output; onnxruntime's time is of the network alone.
"""

import json
import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parent.parent / "models"


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    familiar, bundle, trust, python = sys.argv[1:]
    # Holds SPD-01, SPD-03.
    ours = told([familiar, "bench", "--json", "--bundle", bundle, "--trust", trust])
    theirs = told([python, "-B", MODELS / "bench_onnxruntime.py", bundle, "--json"])
    networks = {line["file"]: line["median_ms"] for line in theirs["networks"]}
    of_stage = {
        "embed": [networks["embedder.onnx"]],
        "detect": [networks["detector.onnx"]],
        "liveness": [time for file, time in networks.items() if file.startswith("liveness")],
    }
    width, height = ours["frame"]
    print(f"Model {ours['model']['name']} {ours['model']['version']}, {ours['rounds']} rounds, {processor()}\n")
    print(f"| stage (frame {width}x{height}) | familiar median ms | p95 ms | onnxruntime median ms | ratio |")
    print("|---|---|---|---|---|")
    for stage in ours["stages"]:
        line = f"| {stage['name']} | {stage['median_ms']:.2f} | {stage['p95_ms']:.2f} |"
        if compared := of_stage.get(stage["name"]):
            line += f" {sum(compared):.2f} | {stage['median_ms'] / sum(compared):.2f} |"
        else:
            line += " | |"
        print(line)
    print("\n| start | ms |\n|---|---|")
    for name, time in ours["startup_ms"].items():
        if time is not None:
            print(f"| {name.replace('_', ' ')} | {time:.0f} |")
    rates = ours["frames_per_second"]
    print(f"\nFrames a second: {rates['one_face']:.1f} with a face embedded in each, {rates['no_face']:.1f} without a face.")
    print(f"Memory: {ours['resident_mib']:.0f} MiB after start, {ours['peak_memory_mib']:.0f} MiB at most.")


def told(command: list) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


if __name__ == "__main__":
    main()
