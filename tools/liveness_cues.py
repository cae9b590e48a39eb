"""Cues of a flat replay that were tried beside the bundle's networks, and why none is used: their range over whole tracks.

    models/.build/venv/bin/python tools/liveness_cues.py KIND=FOLDER...

FOLDER holds SUBJECT/SEQUENCE/0000.jpg. For each kind the least, median and largest track of

    networks   mean score of the liveness networks, for comparison
    moire      peaks of the spectrum about the face over the median of their radius, log amplitude, above 0.12 cycles a pixel
               (periodic patterns of recaptured screens: Garcia and de Queiroz 2015, IEEE TIFS 10(4))
    frame      share of the rows beside the face, on the side that has less, that one straight steep line crosses (the edge of
               a sheet or a screen: Komulainen, Hadid and Pietikainen 2013, BTAS)
    rigid      residual of an affine map between the five landmarks of two frames, in distances of the eyes (a flat picture
               moves as a plane: De Marsico and others 2012, ICB)
    together   log of the motion about the face against that in it (a held picture moves with what it shows around: Anjos and
               Marcel 2011, IJCB)
"""

import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "models"))
FRAMES = 12  # of a track, at most
NAMES = ("networks", "moire", "frame", "rigid", "together")


def moire(grey: np.ndarray, box) -> float:
    side = 128
    x, y, w, h = box
    left = int(min(max(x + w / 2 - side / 2, 0), grey.shape[1] - side))
    top = int(min(max(y + h / 2 - side / 2, 0), grey.shape[0] - side))
    part = grey[top : top + side, left : left + side]
    window = np.hanning(side)
    spectrum = np.log(np.abs(np.fft.fft2((part - part.mean()) * window[:, None] * window)) + 1)
    f = np.fft.fftfreq(side)
    radius = np.hypot(f[:, None], f)
    rings = (radius * 64).astype(int)
    for ring in np.unique(rings):
        spectrum[rings == ring] -= np.median(spectrum[rings == ring])
    # Not on the axes, where the blocks of JPEG have their own.
    where = (radius > 0.12) & (radius < 0.5) & (np.abs(f[:, None]) >= 0.02) & (np.abs(f) >= 0.02)
    return float(np.sort(spectrum[where])[-4:].mean())


def line(steep: np.ndarray) -> float:
    """Share of the rows that the best nearly upright line crosses where it is steep, to a pixel."""
    if steep.shape[0] < 40 or steep.shape[1] < 12:
        return 0.0
    rows, best = np.arange(steep.shape[0]), 0.0
    for tilt in np.linspace(-0.1, 0.1, 11):
        shift = np.round(tilt * (rows - len(rows) / 2)).astype(int)
        upright = np.stack([np.roll(steep[row], -shift[row]) for row in rows])
        best = max(best, float((upright | np.roll(upright, 1, 1)).mean(0).max()))
    return best


def frame(grey: np.ndarray, box) -> float:
    steep = np.abs(np.diff(grey, axis=1)) > 12
    x, y, w, h = box
    cx = x + w / 2
    rows = slice(int(max(y - h / 2, 0)), int(y + 1.5 * h))
    left = steep[rows, int(max(cx - 2.2 * w, 0)) : int(max(cx - 0.65 * w, 0))]
    right = steep[rows, int(cx + 0.65 * w) : int(cx + 2.2 * w)]
    return min(line(left), line(right))


def rigid(landmarks: np.ndarray) -> float:
    first = np.c_[landmarks[0], np.ones(5)]
    residuals = [
        np.sqrt(((first @ np.linalg.lstsq(first, other, rcond=None)[0] - other) ** 2).sum(1).mean())
        for other in landmarks[1:]
    ]
    return float(np.mean(residuals) / np.hypot(*(landmarks[0][0] - landmarks[0][1])))


def together(small: list[np.ndarray], boxes: list) -> float:
    inside, around = [], []
    rows, columns = np.mgrid[:60, :80]
    for one, other, box in zip(small, small[1:], boxes[1:]):
        moved = np.abs(one - other)
        x, y, w, h = (value / 8 for value in box)
        within = lambda a, b, c, d: (columns >= x - a * w) & (columns < x + b * w) & (rows >= y - c * h) & (rows < y + d * h)
        ring = within(1, 2, 0.7, 1.2) & ~within(0.25, 1.25, 0.35, 9)
        inside.append(moved[within(0, 1, 0, 1)].mean())
        around.append(moved[ring].mean())
    return float(np.log((np.mean(around) + 0.3) / (np.mean(inside) + 0.3)))


def track(task: tuple[str, Path]) -> tuple[str, list[float]] | None:
    from recipe.crops import liveness_crop
    from recipe.runtime import Detector, Liveness

    kind, folder = task
    bundle = TOP / "models/facenet"
    table = tomllib.loads((bundle / "bundle.toml").read_text())
    detector = Detector(str(bundle / "detector.onnx"), table["detector"])
    networks = [Liveness(str(bundle / entry["file"]), entry) for entry in table["liveness"]]
    found = []
    for path in sorted(folder.glob("*.jpg"))[:FRAMES]:
        picture = Image.open(path).convert("RGB")
        if faces := detector.detect(picture):
            found.append((picture, max(faces, key=lambda face: face.box[2] * face.box[3])))
    if len(found) < 5:
        return None
    score = lambda picture, face: np.mean([
        network.classes(liveness_crop(picture, face, network.entry["crop_scale"], network.size))[network.entry["live_class"]]
        for network in networks
    ])
    greys = [np.asarray(picture.convert("L"), np.float32) for picture, _ in found]
    boxes = [face.box for _, face in found]
    small = [np.asarray(picture.convert("L").resize((80, 60), Image.Resampling.BOX), np.float32) for picture, _ in found]
    landmarks = np.array([face.landmarks for _, face in found])
    return kind, [
        float(np.mean([score(*one) for one in found])),
        float(np.mean([moire(*one) for one in zip(greys, boxes)])),
        float(np.mean([frame(*one) for one in zip(greys, boxes)])),
        rigid(landmarks[:8]),
        together(small, boxes),
    ]


def main(folders: dict[str, Path]) -> None:
    tasks = [(kind, sequence) for kind, folder in folders.items() for sequence in sorted(folder.glob("*/*"))]
    with ProcessPoolExecutor() as pool:
        measured = [result for result in pool.map(track, tasks) if result]
    print("| cue | " + " | ".join(folders) + " |")
    print("|---|" + "---|" * len(folders))
    for at, name in enumerate(NAMES):
        cells = []
        for kind in folders:
            values = [values[at] for own, values in measured if own == kind]
            cells.append(f"{min(values):.3f}, {np.median(values):.3f}, {max(values):.3f}" if values else "none")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main({kind: Path(folder) for kind, folder in (argument.split("=", 1) for argument in sys.argv[1:])})
