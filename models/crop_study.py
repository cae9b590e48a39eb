"""Whose boxes make faces easier to tell apart, and why? The tables "Two detectors' boxes" of docs/evaluation.md.

    models/.build/venv/bin/python -B models/crop_study.py --images DIR --pairs FILE --cache DIR CUT CUT…
    models/.build/venv/bin/python -B models/crop_study.py --images DIR --pairs FILE --cache DIR --steadiness CUT…
    models/.build/venv/bin/python -B models/crop_study.py --images DIR --pairs FILE --cache DIR --shapes CUT CUT

compares each CUT with the first. A CUT is a detector with the size of its input, and how its box is changed before the
face is cut out, one change after the other:

    yunet-320x256                      as familiar does it: the mean of the candidates for a face, enlarged by a fifth
    best-yunet-320x256                 the most confident candidate alone, as familiar did it before
    yunet-320x256:h=.945,dy=.016       the box lower by 5.5 %, and moved down by 1.6 % of its height

w, h: factors of the sides; aspect: width by height, the area is kept; square: both sides that many times the mean side;
dx, dy: shares of the sides; points: from the five landmarks alone (1), or half way (.5); margin: instead of a fifth;
place, size: centre or sides of best-centerface-192x160's box of the same face, less its mean difference.

--shapes gives that mean difference of two detectors' boxes. --steadiness moves pictures by a few pixels under the detector
and tells how far its boxes wander on the face. DIR of --images: NAME/NAME_0001.jpg; FILE: LFW's pairs. The cache holds boxes
and embeddings, real people's if the pictures are: keep it to yourself. The network is the author's in float, the centre of
each fold's people that of the other folds'. Where the package openvino can be imported, it computes, in bfloat16 where the
processor does (a cosine of 0.9999 to onnxruntime, several times as fast).
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from PIL import Image

from judge_onnxruntime import STEP, central, read_pairs
from recipe import detectors, facenet, runtime, sources
from recipe.detectors import Face

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"
MARGIN = 0.2  # bundle/base.toml
OTHER = "best-centerface-192x160"
RATES = (1e-2, 1e-3, 1e-4)
PICTURES = 3  # of a person, at most, for the TAR: nobody counts for many
DRAWS = 2000
BATCH = 8
WANDER, MOVES, EACH = 8, 4, 38  # pixels at most, moves of a picture, every so many pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--few", action="store_true", help="no pairs, and embeddings for the TAR's pictures alone: half the time")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--steadiness", action="store_true")
    parser.add_argument("cuts", nargs="+", metavar="CUT")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(args)
    if args.steadiness:
        for name in args.cuts:
            steadiness(pictures.files[::EACH], name)
    elif args.shapes:
        shapes(*(pictures.faces(name) for name in args.cuts))
    else:
        first, *others = (Result(pictures, name) for name in args.cuts)
        for other in (first, *others):
            other.compare(first)


class Pictures:
    """The pictures of the pairs, whose they are, and (in the cache) faces and embeddings."""

    def __init__(self, args):
        self.cache = args.cache
        self.pairs, self.folds = read_pairs(args.pairs)
        names = sorted({name for *_, left, right in self.pairs for name in (left, right)})
        self.number = {name: at for at, name in enumerate(names)}
        self.only_few = args.few
        self.files = [args.images / person / f"{person}_{number:04}.jpg" for person, number in names]
        fold_of = {person: fold for _, fold, *both in self.pairs for person, _ in both}
        self.fold = np.array([fold_of[person] for person, _ in names])
        _, self.who = np.unique([person for person, _ in names], return_inverse=True)
        counted = np.array([(self.who[:at] == who).sum() for at, who in enumerate(self.who)])
        alone = np.bincount(self.who)[self.who] == 1
        self.few = (counted < PICTURES) & ~alone

    def faces(self, detector: str) -> list[Face | None]:
        """On each picture the face nearest its centre, as `familiar evaluate` takes it."""
        kept = self.cache / f"faces-{detector}.json"
        if not kept.exists():
            network, found = Detector(detector), []
            for file in progress(detector, self.files):
                picture = Image.open(file).convert("RGB")
                face = central(network.detect(picture), picture)
                found.append(face and [face.box.tolist(), face.landmarks.tolist(), face.score])
            kept.write_text(json.dumps(found))
        return [face and Face(np.array(face[0]), np.array(face[1]), face[2]) for face in json.loads(kept.read_text())]

    def looks(self, cut: str) -> np.ndarray:
        """An embedding for each picture, before a centre; not a number where no face was found."""
        kept = self.cache / f"{'few-' if self.only_few else ''}looks-{cut}.npy"
        if not kept.exists():
            wanted = self.few | (not self.only_few)
            windows = [(at, window) for at, window in enumerate(self.windows(cut)) if wanted[at] and window is not None]
            looks, network = np.full((len(self.files), facenet.DIMENSIONS), np.nan, np.float32), network_in_batches()
            for start in progress(cut, range(0, len(windows), BATCH)):
                part = windows[start : start + BATCH]
                batch = np.zeros((BATCH, 3, facenet.SIDE, facenet.SIDE), np.float32)
                for slot, (at, window) in enumerate(part):
                    batch[slot] = cut_out(Image.open(self.files[at]).convert("RGB"), window)
                looks[[at for at, _ in part]] = network(batch)[: len(part)]
            np.save(kept, unit(looks))
        return np.load(kept).astype(np.float64)

    def windows(self, cut: str) -> list[np.ndarray | None]:
        detector, _, changes = cut.partition(":")
        changes = [change.split("=") for change in changes.split(",") if change]
        faces = self.faces(detector)
        others = self.faces(OTHER) if any(name in ("place", "size") for name, _ in changes) else faces
        rules = Rules(faces, others)
        return [face and rules.window(face, other, changes) for face, other in zip(faces, others)]


class Rules:
    """Changes of a box. What they need to know on average is measured on the faces given."""

    def __init__(self, faces, others):
        both = [(face, other) for face, other in zip(faces, others) if face and other]
        difference = np.array([between(face, other) for face, other in both])
        self.shift, self.grown = difference[:, :2].mean(0), np.exp(difference[:, 2:].mean(0))
        self.from_points = np.array([relative(face) for face, _ in both])
        self.from_points = np.concatenate([self.from_points[:, :2].mean(0), np.exp(np.log(self.from_points[:, 2:]).mean(0))])

    def window(self, face: Face, other: Face, changes) -> np.ndarray:
        """Left, top, width, height of what is cut out."""
        center, sides = middle(face), face.box[2:].copy()
        margin = MARGIN
        for name, value in ((name, float(value)) for name, value in changes):
            area = np.sqrt(sides.prod())
            if name in ("w", "h"):
                sides["wh".index(name)] *= value
            elif name in ("dx", "dy"):
                center["xy".index(name[1])] += value * sides["xy".index(name[1])]
            elif name == "aspect":
                sides = area * np.array([np.sqrt(value), 1 / np.sqrt(value)])
            elif name == "square":
                sides = np.full(2, area * value)
            elif name == "place":
                center = middle(other) - self.shift * face.box[2:]
            elif name == "size":
                sides = other.box[2:] / self.grown
            elif name == "points":
                mean = face.landmarks.mean(0)
                spread = spread_of(face)
                center = (1 - value) * center + value * (mean + self.from_points[:2] * spread)
                sides = sides ** (1 - value) * (self.from_points[2:] * spread) ** value
            elif name == "margin":
                margin = value
            else:
                sys.exit(f"models: no such change of a box: {name}")
        grown = sides * (1 + margin)
        return np.concatenate([center - grown / 2, grown])


def middle(face: Face) -> np.ndarray:
    return face.box[:2] + face.box[2:] / 2


def spread_of(face: Face) -> float:
    return float(np.sqrt(((face.landmarks - face.landmarks.mean(0)) ** 2).sum(1).mean()))


def relative(face: Face) -> np.ndarray:
    """The box seen from its landmarks, in units of their spread."""
    return np.concatenate([middle(face) - face.landmarks.mean(0), face.box[2:]]) / spread_of(face)


def between(face: Face, other: Face) -> np.ndarray:
    """From one box to the other: of the centre in shares of the sides, of the sides as logarithms of factors."""
    return np.concatenate([(middle(other) - middle(face)) / face.box[2:], np.log(other.box[2:] / face.box[2:])])


def shapes(faces, others) -> None:
    difference = np.array([between(face, other) for face, other in zip(faces, others) if face and other])
    for name, column in zip(("dx", "dy", "w", "h"), difference.T):
        typical = np.exp(column.mean()) if name in "wh" else column.mean()
        print(f"{name:3} {typical:+.4f}, standard deviation {column.std():.4f}")


def steadiness(files, name: str) -> None:
    """Standard deviations of one face's box over moves of the picture, root mean square, in percent of its sides."""
    network, rng, found = Detector(name), np.random.default_rng(0), []
    moves = [(0, 0), *(tuple(map(int, rng.integers(-WANDER, WANDER + 1, 2))) for _ in range(MOVES))]
    for file in progress(name, files):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((WANDER, WANDER), (WANDER, WANDER), (0, 0)), mode="edge")
        boxes = []
        for x, y in moves:
            moved = Image.fromarray(padded[WANDER + y : WANDER + y + height, WANDER + x : WANDER + x + width])
            meant = np.array([width, height]) / 2 - (x, y)
            face = min(network.detect(moved), key=lambda face: np.hypot(*(middle(face) - meant)), default=None)
            if face:
                boxes.append([*(middle(face) + (x, y)), *face.box[2:]])
        if len(boxes) == len(moves):
            found.append(boxes)
    found = np.array(found)
    sides = np.tile(found[:, :, 2:].mean(1), 2)
    wander = 100 * np.sqrt((found.var(1, ddof=1) / sides**2).mean(0))
    print(f"{name}: {len(found)} faces; centre {wander[0]:.2f} and {wander[1]:.2f} %, sides {wander[2]:.2f} and {wander[3]:.2f} %")


class Result:
    """How well a cut's embeddings tell people apart."""

    def __init__(self, pictures: Pictures, name: str):
        self.name, self.pictures = name, pictures
        looks = centred(pictures.looks(name), pictures.who, pictures.fold)
        self.right = np.zeros(0, bool) if pictures.only_few else told_right(looks, pictures)
        few, who = looks[pictures.few], pictures.who[pictures.few]
        upper = np.triu_indices(len(who), 1)
        same = (who[:, None] == who[None])[upper]
        # A face that was not found is like nobody.
        similarity = np.nan_to_num(few @ few.T, nan=-2.0)[upper]
        impostors = np.sort(similarity[~same])[::-1]
        self.accepted = np.array([similarity[same] > impostors[int(rate * len(impostors))] for rate in RATES])
        self.person = who[upper[0][same]]

    def compare(self, first: "Result") -> None:
        print(self.name)
        if len(self.right):
            gained, lost = (self.right & ~first.right).sum(), (~self.right & first.right).sum()
            folds = ", ".join(f"{100 * self.right[part].mean():.2f}" for part in self.parts())
            print(f"  pairs {100 * self.right.mean():.2f} % (by fold {folds}); gained {gained}, lost {lost}")
        for rate, own, other in zip(RATES, self.accepted, first.accepted):
            low, high = self.interval(own.astype(float) - other)
            difference = 100 * (own.mean() - other.mean())
            print(f"  TAR at {rate:g}: {100 * own.mean():.2f} %, {difference:+.2f} ({low:+.2f} to {high:+.2f})")
        sys.stdout.flush()

    def parts(self):
        fold = np.array([pair[1] for pair in self.pictures.pairs])
        return [fold == number for number in range(self.pictures.folds)]

    def interval(self, difference: np.ndarray) -> np.ndarray:
        """95 %, in percent, from drawing people with replacement."""
        sums, counts = np.bincount(self.person, difference), np.bincount(self.person)
        sums, counts = sums[counts > 0], counts[counts > 0]
        drawn = np.random.default_rng(1).integers(0, len(sums), (DRAWS, len(sums)))
        return 100 * np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])


def centred(looks: np.ndarray, who: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Less the mean of the people of the other folds, of whom each counts once."""
    known, turned = ~np.isnan(looks[:, 0]), np.full_like(looks, np.nan)
    for number in np.unique(fold):
        others = known & (fold != number)
        sums = np.zeros((who.max() + 1, looks.shape[1]))
        np.add.at(sums, who[others], looks[others])
        counts = np.bincount(who[others], minlength=len(sums))
        center = (sums[counts > 0] / counts[counts > 0, None]).mean(0)
        turned[fold == number] = unit(looks[fold == number] - center)
    return turned


def told_right(looks: np.ndarray, pictures: Pictures) -> np.ndarray:
    """For each pair, by the threshold that is best on the other folds, as `familiar evaluate` chooses it."""
    same, fold = (np.array(column) for column in list(zip(*pictures.pairs))[:2])
    similarity = np.array([looks[pictures.number[a]] @ looks[pictures.number[b]] for _, _, a, b in pictures.pairs])
    thresholds = np.arange(-1, 1, STEP)
    right = np.where(same[:, None], similarity[:, None] >= thresholds, similarity[:, None] < thresholds)
    told = np.zeros(len(same), bool)
    for number in range(pictures.folds):
        best = right[fold != number].sum(0)
        told[fold == number] = right[fold == number, int(np.median(np.flatnonzero(best == best.max())))]
    return told


class Detector(runtime.Detector):
    """KIND-WxH: the mean of a face's candidates; best-KIND-WxH: the best alone."""

    def __init__(self, name: str):
        self.blend = not name.startswith("best-")
        kind, _, size = name.removeprefix("best-").partition("-")
        width, height = map(int, size.split("x"))
        entry = tomllib.loads((HERE / f"bundle/detector-{kind}.toml").read_text())["detector"]
        entry["input"] |= {"width": width, "height": height}
        if kind == "yunet":
            data = detectors.fixed_yunet(sources.hosted(sources.YUNET, BUILD / "downloads"), width, height)
        else:
            data = detectors.fixed_centerface(sources.packaged(sources.CENTERFACE, BUILD / "wheels"), width, height)
        super().__init__(data, entry)

    def detect_scaled(self, picture: Image.Image) -> list[Face]:
        faces = detectors.DECODERS[self.entry["decoder"]](self.run(picture), *self.size, self.entry["score_threshold"])
        return detectors.suppress(faces, self.entry["overlap_threshold"], self.blend)


def network_in_batches():
    """FaceNet without a centre: a batch of BATCH crops to as many embeddings."""
    data = facenet.convert(sources.packaged(sources.FACENET, BUILD / "wheels")).SerializeToString()
    try:
        import openvino
    except ImportError:
        network = runtime.session(data)
        (name,) = (entry.name for entry in network.get_inputs())
        return lambda batch: np.concatenate([network.run(None, {name: one[None]})[0] for one in batch])
    core = openvino.Core()
    model = core.read_model(data)
    model.reshape([BATCH, 3, facenet.SIDE, facenet.SIDE])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16"})
    return lambda batch: compiled(batch)[0]


def cut_out(picture: Image.Image, window: np.ndarray) -> np.ndarray:
    """As recipe/crops.py cuts a box: what lies beyond the picture is left out."""
    left, right = np.clip([window[0], window[0] + window[2]], 0, picture.width)
    top, bottom = np.clip([window[1], window[1] + window[3]], 0, picture.height)
    edges = (float(left), float(top), float(right), float(bottom))
    crop = picture.resize((facenet.SIDE, facenet.SIDE), Image.Resampling.BILINEAR, edges)
    return ((np.asarray(crop, np.float32) - 127.5) / 128).transpose(2, 0, 1)


def unit(looks: np.ndarray) -> np.ndarray:
    return looks / np.linalg.norm(looks, axis=1, keepdims=True)


def progress(what: str, items):
    for at, item in enumerate(items):
        if at % 500 == 0:
            print(f"{what}: {at} of {len(items)}", file=sys.stderr)
        yield item


if __name__ == "__main__":
    main()
