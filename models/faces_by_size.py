"""How large must a face be to be found? The table "Which faces are found" of docs/evaluation.md.

    models/.build/venv/bin/python -B models/faces_by_size.py --images DIR --boxes FILE DETECTOR…

DETECTOR: yunet-320x256, centerface-224x192 and so on, see crop_study.py. FILE: boxes as `familiar evaluate --boxes` takes
them. A face's size is the mean side of its box, the picture scaled to fit a camera's 640x480. "seen": reported by the
detector; "usable": with a score that the gate for looks asks for, too (src/face/quality.rs).
"""

import argparse
import csv
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from crop_study import Detector
from PIL import Image

from recipe.detectors import _iou

FRAME = (640, 480)
SIZES = (28, 48, 64, 96)
GATE = 0.6
FOUND = 0.5  # IoU, as `familiar evaluate --boxes` asks for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("detectors", nargs="+", metavar="DETECTOR")
    args = parser.parse_args()
    marked: dict[str, list[dict]] = {}
    for row in csv.DictReader(args.boxes.open()):
        marked.setdefault(row["image"], []).append(row)
    for name in args.detectors:
        tell(name, args.images, marked)


def tell(name: str, images: Path, marked: dict[str, list[dict]]) -> None:
    detector, faces, wrong = Detector(name), [], 0
    for file, rows in marked.items():
        picture = Image.open(images / file).convert("RGB")
        scale = min(FRAME[0] / picture.width, FRAME[1] / picture.height)
        boxes = [np.array([float(row[key]) for key in "xywh"]) for row in rows]
        score = dict.fromkeys(range(len(rows)), 0.0)
        free = set(score)
        for face in detector.detect(picture):
            best = max(free, key=lambda at: _iou(boxes[at], face.box), default=None)
            if best is None or _iou(boxes[best], face.box) < FOUND:
                wrong += 1
                continue
            free.remove(best)
            score[best] = face.score
        for at, row in enumerate(rows):
            if row["invalid"] != "1":
                faces.append((np.sqrt(boxes[at][2] * boxes[at][3]) * scale, row["easy"] == "1", score[at]))
    print(f"{name}: {wrong / len(marked):.3f} false a picture, of {len(marked)}")
    groups = {"easy": [score for _, easy, score in faces if easy]}
    groups |= {f"{size} pixels and more": [score for side, _, score in faces if side >= size] for size in SIZES}
    for group, scores in groups.items():
        seen, usable = sum(score > 0 for score in scores), sum(score >= GATE for score in scores)
        print(f"  {group}: {len(scores)}, seen {seen}, usable {usable}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
