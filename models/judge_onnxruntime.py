"""The bundle's path from picture to embedding without the daemon's code: Pillow, numpy, onnxruntime on one thread.

It judges what `familiar evaluate` says of tract and of quantization. Run it with models/.build/venv/bin/python.

    judge_onnxruntime.py embed --bundle DIR [--embedder FILE] PICTURE…
        one JSON object a line: photo, box (null if no face was found), embedding (null likewise)
    judge_onnxruntime.py embed --bundle DIR [--embedder FILE] --crops CROP…
        the same for pictures that are already cut to the embedder's input size
    judge_onnxruntime.py pairs --bundle DIR [--embedder FILE]… --images DIR --pairs FILE [--output FILE.json]
        LFW's protocol, for each embedder: one JSON object a line. --output also keeps every pair's similarity.

--embedder: another file than the bundle's, as models/.build/embedder-float.onnx, the graph before quantization.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from PIL import Image

from recipe.crops import crop
from recipe.detectors import Face
from recipe.runtime import Detector, Embedder

STEP = 0.0005  # of the thresholds tried


def main() -> None:
    args = arguments()
    table = tomllib.loads((args.bundle / "bundle.toml").read_text())
    detector = Detector(str(args.bundle / table["detector"]["file"]), table["detector"])
    files = args.embedder or [args.bundle / table["embedder"]["file"]]
    embedders = {str(file): Embedder(str(file), table["embedder"]) for file in files}
    if args.what == "embed":
        embed(next(iter(embedders.values())), detector, args)
    else:
        pairs(embedders, detector, args)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    for name in ("embed", "pairs"):
        sub = what.add_parser(name)
        sub.add_argument("--bundle", type=Path, required=True)
        sub.add_argument("--embedder", type=Path, action="append")
        if name == "embed":
            sub.add_argument("--crops", action="store_true")
            sub.add_argument("pictures", nargs="+", type=Path)
        else:
            sub.add_argument("--images", type=Path, required=True)
            sub.add_argument("--pairs", type=Path, required=True)
            sub.add_argument("--output", type=Path)
    return parser.parse_args()


def embed(embedder: Embedder, detector: Detector, args: argparse.Namespace) -> None:
    for file in args.pictures:
        picture = Image.open(file).convert("RGB")
        face = None if args.crops else central(detector.detect(picture), picture)
        cut = picture if args.crops else face and crop(picture, face, embedder.entry["crop"], embedder.size)
        line = {
            "photo": str(file),
            "box": face and [round(float(value), 2) for value in face.box],
            "embedding": [float(value) for value in embedder.embed(cut)] if cut else None,
        }
        print(json.dumps(line), flush=True)


def pairs(embedders: dict[str, Embedder], detector: Detector, args: argparse.Namespace) -> None:
    listed, folds = read_pairs(args.pairs)
    names = sorted({name for _, _, left, right in listed for name in (left, right)})
    looks: dict[str, dict[str, np.ndarray]] = {file: {} for file in embedders}
    for at, (person, number) in enumerate(names):
        picture = Image.open(args.images / person / f"{person}_{number:04}.jpg").convert("RGB")
        if face := central(detector.detect(picture), picture):
            for file, embedder in embedders.items():
                cut = crop(picture, face, embedder.entry["crop"], embedder.size)
                looks[file][person, number] = embedder.embed(cut)
        if at % 100 == 0:
            print(f"{at} of {len(names)} pictures", file=sys.stderr)
    kept = {}
    for file, found in looks.items():
        # A pair with a picture on which no face is found is told wrong: no threshold makes it right.
        similarity = np.array(
            [found[a] @ found[b] if a in found and b in found else np.nan for _, _, a, b in listed], np.float64
        )
        kept[file] = similarity.tolist()
        same, fold = (np.array(column) for column in list(zip(*listed))[:2])
        report = verify(similarity, same, fold, folds)
        print(json.dumps({"embedder": file, "pairs": len(listed), "undetected": len(names) - len(found), **report}))
    if args.output:
        args.output.write_text(json.dumps(kept))


def central(faces: list[Face], picture: Image.Image) -> Face | None:
    """Of several faces the one nearest the picture's centre, as `familiar evaluate` takes it."""
    middle = np.array([picture.width, picture.height]) / 2
    return min(faces, key=lambda face: np.hypot(*(face.box[:2] + face.box[2:] / 2 - middle)), default=None)


def read_pairs(file: Path) -> tuple[list, int]:
    """(same person, fold, picture, picture) and the number of folds, from LFW's pairs.txt."""
    lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    folds, each = (int(lines[0][0]), int(lines[0][1])) if len(lines[0]) == 2 else (1, int(lines[0][0]))
    listed = []
    for at, words in enumerate(lines[1:]):
        fold = at // (2 * each)
        if len(words) == 3:
            listed.append((True, fold, (words[0], int(words[1])), (words[0], int(words[2]))))
        else:
            listed.append((False, fold, (words[0], int(words[1])), (words[2], int(words[3]))))
    return listed, folds


def verify(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray, folds: int) -> dict:
    """Accuracy with each fold's threshold chosen on the others, Wilson's 95 % interval, equal error rate."""
    thresholds = np.arange(-1, 1, STEP)
    # right[pair, threshold]; what is not a number is never right.
    right = np.where(same[:, None], similarity[:, None] >= thresholds, similarity[:, None] < thresholds)
    rates, told = [], 0
    for number in range(folds):
        inside = fold == number
        others = right[~inside] if folds > 1 else right
        best = others.sum(0)
        chosen = int(np.median(np.flatnonzero(best == best.max())))
        told += int(right[inside, chosen].sum())
        rates.append(right[inside, chosen].mean())
    known = ~np.isnan(similarity)
    accepted = [(similarity[known & ~same] >= t).mean() for t in thresholds]
    refused = [(similarity[known & same] < t).mean() for t in thresholds]
    crossing = int(np.argmin(np.abs(np.array(accepted) - refused)))
    return {
        "accuracy": {
            "mean": float(np.mean(rates)),
            "sd": float(np.std(rates, ddof=1)) if folds > 1 else 0.0,
            "interval": wilson(told, len(same)),
        },
        "eer": float((accepted[crossing] + refused[crossing]) / 2),
    }


def wilson(hits: int, trials: int, z: float = 1.959964) -> list[float]:
    rate, spread = hits / trials, z * z / trials
    middle = rate + spread / 2
    half = z * np.sqrt(rate * (1 - rate) / trials + spread / trials / 4)
    return [float((middle - half) / (1 + spread)), float((middle + half) / (1 + spread))]


if __name__ == "__main__":
    main()
