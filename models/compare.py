"""What raises accuracy? The candidates of docs/evaluation.md on people they were not fitted to, in onnxruntime.

    models/.build/venv/bin/python -B models/compare.py --bundle DIR --images DIR

--images: NAME/*.jpg, a folder for each person; the first three pictures of everybody who has two or more. The author's
float graph, without a centre. What has to be fitted (centre, whitening, cohort) is fitted on half of the people and
judged on the other half, both ways, for each of three partings. d' is the distance of the means of same and different
people in standard deviations; TAR: same people accepted at a threshold that so many pairs of different ones reach.
"""

import argparse
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from center import plain_embedder
from PIL import Image, ImageOps

from judge_onnxruntime import central
from recipe.crops import crop
from recipe.runtime import Detector

PICTURES, PARTINGS = 3, 3
RATES = (1e-2, 1e-3, 1e-4)


# Holds REC-02.
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    args = parser.parse_args()
    views, who = embed(args)
    box, mirrored, upright, wide = (views[name] for name in ("box", "mirrored", "upright", "wide"))
    print(f"{len(who)} pictures of {who.max() + 1} people")
    for name, looks in {
        "box": box,
        "box 30 %": wide,
        "box turned upright": upright,
        "box + mirrored": unit(box + mirrored),
        "box + upright": unit(box + upright),
        "box + mirrored + upright": unit(box + mirrored + upright),
    }.items():
        for how, fit in {"as is": plain, "centred": centred, "centred and half whitened": whitened}.items():
            tell(f"{name}, {how}", looks, who, fit)
    tell("box, WCCN", box, who, within_class)
    tell("box, adaptive symmetric normalisation (200)", box, who, plain, cohort=200)


def embed(args) -> tuple[dict[str, np.ndarray], np.ndarray]:
    table = tomllib.loads((args.bundle / "bundle.toml").read_text())
    detector = Detector(str(args.bundle / table["detector"]["file"]), table["detector"])
    embedder = plain_embedder(table["embedder"])
    faces, who = [], []
    folders = [sorted(folder.glob("*.jpg")) for folder in sorted(args.images.iterdir()) if folder.is_dir()]
    for person, files in enumerate(files for files in folders if len(files) > 1):
        for file in files[:PICTURES]:
            picture = Image.open(file).convert("RGB")
            if face := central(detector.detect(picture), picture):
                faces.append((file, face))
                who.append(person)
    pose = MeanFace([face for _, face in faces])
    views: dict[str, list] = {"box": [], "mirrored": [], "upright": [], "wide": []}
    for at, (file, face) in enumerate(faces):
        picture = Image.open(file).convert("RGB")
        cut = crop(picture, face, table["embedder"]["crop"], embedder.size)
        views["box"].append(embedder.embed(cut))
        views["mirrored"].append(embedder.embed(ImageOps.mirror(cut)))
        views["wide"].append(embedder.embed(crop(picture, face, {"kind": "box", "margin": 0.3}, embedder.size)))
        views["upright"].append(embedder.embed(pose.cut(picture, face, table["embedder"]["crop"]["margin"], embedder.size)))
        if at % 100 == 0:
            print(f"{at} of {len(faces)} pictures", file=sys.stderr)
    return {name: np.array(looks) for name, looks in views.items()}, np.array(who)


class MeanFace:
    """The box that the five landmarks of a face call for, turned with them; stretched to the input as the box is."""

    def __init__(self, faces: list):
        boxes = np.array([face.box for face in faces])
        sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
        points = np.array([face.landmarks for face in faces]) - (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
        self.landmarks = (points / sides[:, None, None]).mean(0)
        self.aspect = np.sqrt(boxes[:, 2] / boxes[:, 3]).mean()

    def cut(self, picture: Image.Image, face, margin: float, size: tuple[int, int]) -> Image.Image:
        window = np.array([self.aspect, 1 / self.aspect]) * (1 + margin)
        p, q = self.landmarks - self.landmarks.mean(0), face.landmarks - face.landmarks.mean(0)
        spread = (p**2).sum()
        a, b = (p * q).sum() / spread, (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / spread
        turn = np.array([[a, -b], [b, a]])
        corner = turn @ (-window / 2 - self.landmarks.mean(0)) + face.landmarks.mean(0)
        matrix = turn @ np.diag(window / size)
        shrink = max(1.0, np.hypot(a, b) * np.sqrt(window.prod()) / size[0])
        small = picture.resize((round(picture.width / shrink), round(picture.height / shrink)), Image.Resampling.BILINEAR)
        factors = np.array([small.width / picture.width, small.height / picture.height])
        matrix, corner = matrix * factors[:, None], corner * factors
        return small.transform(
            size, Image.Transform.AFFINE, [*matrix[0], corner[0], *matrix[1], corner[1]], Image.Resampling.BILINEAR
        )


def unit(looks: np.ndarray) -> np.ndarray:
    return looks / np.linalg.norm(looks, axis=1, keepdims=True)


def plain(_looks: np.ndarray, _who: np.ndarray):
    return unit


def centred(looks: np.ndarray, _who: np.ndarray):
    center = looks.mean(0)
    return lambda others: unit(others - center)


def whitened(looks: np.ndarray, _who: np.ndarray):
    """Principal axes divided by the fourth root of their variance."""
    center = looks.mean(0)
    variance, axes = np.linalg.eigh(np.cov((looks - center).T))
    scaled = axes * np.maximum(variance, variance.max() * 1e-3) ** -0.25
    return lambda others: unit((others - center) @ scaled)


def within_class(looks: np.ndarray, who: np.ndarray):
    """Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006), shrunk by 0.6."""
    center = looks.mean(0)
    people, number = np.unique(who, return_inverse=True)
    means = np.array([looks[number == at].mean(0) for at in range(len(people))])
    counts = np.bincount(number)
    off = (looks - means[number]) * np.sqrt(counts / np.maximum(counts - 1, 1))[number, None]
    covariance = off.T @ off / len(off)
    covariance = 0.4 * covariance + 0.6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    variance, axes = np.linalg.eigh(covariance)
    scaled = axes * variance**-0.5
    return lambda others: unit((others - center) @ scaled)


def tell(name: str, looks: np.ndarray, who: np.ndarray, fit, cohort: int = 0) -> None:
    rows = []
    for parting in range(PARTINGS):
        order = np.random.default_rng(parting).permutation(who.max() + 1)
        halves = np.array_split(order, 2)
        for own, others in (halves, halves[::-1]):
            fitted, judged = np.isin(who, own), np.isin(who, others)
            turned = fit(looks[fitted], who[fitted])
            scores = turned(looks[judged]) @ turned(looks[judged]).T
            if cohort:
                nearest = np.sort(looks[judged] @ looks[fitted].T, axis=1)[:, -cohort:]
                mean, spread = nearest.mean(1), nearest.std(1)
                scores = ((scores - mean[:, None]) / spread[:, None] + (scores - mean[None]) / spread[None]) / 2
            rows.append(measure(scores, who[judged]))
    prime, *accepted = np.mean(rows, axis=0)
    shown = "  ".join(f"{100 * rate:.2f}" for rate in accepted)
    print(f"{name:48} d' {prime:.2f}  TAR at {', '.join(f'{rate:g}' for rate in RATES)}: {shown}", flush=True)


def measure(scores: np.ndarray, who: np.ndarray) -> list[float]:
    upper = np.triu_indices(len(who), 1)
    same = (who[:, None] == who[None])[upper]
    genuine, impostor = scores[upper][same], np.sort(scores[upper][~same])[::-1]
    spread = np.sqrt((genuine.var() + impostor.var()) / 2)
    accepted = [(genuine > impostor[int(rate * len(impostor))]).mean() for rate in RATES]
    return [(genuine.mean() - impostor.mean()) / spread, *accepted]


if __name__ == "__main__":
    main()
