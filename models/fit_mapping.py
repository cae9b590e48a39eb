"""Fits a mapping from one bundle's embedding space into another's, measures what it costs, and adds it to the bundle.

    models/.build/venv/bin/python -B models/fit_mapping.py FAMILIAR --from DIR --to DIR --images DIR [--add PICTURE]

FAMILIAR: the program, which tells what templates are bound to. --from, --to: signed bundles, --trust: folder of the keys
that signed them. --images: NAME/*.jpg, a folder for each person. Fitted on half of the people, measured on the other half;
a mapping from that space that --to has already is measured as it is. --add: writes a fitted one into --to, with a case of
its self-test made of PICTURE, the face of somebody generated; --to has to be signed again then.

`reserve` is what the threshold of a mapped template must be higher by, so that no rate of false matches that could be
measured here is higher than with native templates.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
from PIL import Image

from judge_onnxruntime import central
from recipe import affine_map, selftest
from recipe.crops import crop
from recipe.runtime import Detector, Embedder

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
# A rate is measured if at least so many pairs pass at it.
LEAST_PASSING = 10
PICTURES = 3  # of a person, at most
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STEP = 0.005  # of the reserve
MARGIN = 0.05  # of the self-test's cosine below the one found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("familiar")
    parser.add_argument("--from", type=Path, required=True, dest="source")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--trust", type=Path, default=Path(__file__).resolve().parent / ".build" / "trust.d")
    parser.add_argument("--add", type=Path, metavar="PICTURE")
    args = parser.parse_args()
    space = space_of(args.familiar, args.source, args.trust)
    source, target = Sight(args.source), Sight(args.to)
    if source.dimensions != target.dimensions:
        say(f"from {source.dimensions} to {target.dimensions} dimensions")
    looks, who = see(source, target, args.images)
    fitting = np.isin(who, np.random.default_rng(1).permutation(who.max() + 1)[: (who.max() + 1) // 2])
    declared = next((entry for entry in target.table.get("mapping", []) if entry["from"] == space), None)
    if declared:
        matrix, offset = affine_map.decode((args.to / declared["file"]).read_bytes(), declared["dimensions"])
    else:
        matrix, offset = fit(looks, who, fitting)
    reserve, pairs = measure(looks[0][~fitting], looks[1][~fitting], who[~fitting], matrix, offset)
    if args.add and not declared:
        add(args, target, space, (matrix, offset), reserve, pairs, source)


class Sight:
    """A bundle's way from a picture to an embedding."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.table = tomllib.loads((folder / "bundle.toml").read_text())
        self.entry = self.table["embedder"]
        self.dimensions = self.entry["dimensions"]
        self.detector = Detector(str(folder / self.table["detector"]["file"]), self.table["detector"])
        self.embedder = Embedder(str(folder / self.entry["file"]), self.entry)

    def look(self, picture: Image.Image) -> np.ndarray | None:
        face = central(self.detector.detect(picture), picture)
        return self.embedder.embed(crop(picture, face, self.entry["crop"], self.embedder.size)) if face else None


def space_of(familiar: str, bundle: Path, trust: Path) -> str:
    command = [familiar, "--json", "model", "verify", str(bundle), "--trust", str(trust)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    space = json.loads(done.stdout).get("space") if done.returncode == 0 else None
    return space or sys.exit(f"models: {bundle} was not verified")


def see(source: Sight, target: Sight, images: Path) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """What either sees of the same pictures, and whose they are."""
    looks, who = [], []
    folders = [folder for folder in sorted(images.iterdir()) if folder.is_dir()]
    for person, folder in enumerate(folders):
        for file in sorted(folder.glob("*.jpg"))[:PICTURES]:
            picture = Image.open(file).convert("RGB")
            pair = source.look(picture), target.look(picture)
            if all(look is not None for look in pair):
                looks.append(pair)
                who.append(person)
        if person % 100 == 0:
            say(f"{person} of {len(folders)} people")
    one, other = (np.array(side, np.float64) for side in zip(*looks))
    return (one, other), np.array(who)


def fit(looks, who: np.ndarray, fitting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With the ridge that does best on a quarter of the people that are fitted on."""
    source, target = (side[fitting] for side in looks)
    held = who[fitting] % 4 == 0
    agreement = {}
    for ridge in RIDGES:
        found = affine_map.fit(source[~held], target[~held], ridge)
        agreement[ridge] = float((affine_map.apply(source[held], *found) * target[held]).sum(1).mean())
    best = max(agreement, key=agreement.get)
    say(f"ridge {best:g}: mean cosine {agreement[best]:.4f} on a quarter of the people fitted on")
    return affine_map.fit(source, target, best)


def measure(source, target, who, matrix, offset) -> tuple[float, int]:
    """Prints what a mapped template is worth beside a native one. Gives the reserve, and the pairs it rests on."""
    mapped = affine_map.apply(source, matrix, offset)
    same = who[:, None] == who[None]
    other_picture = ~np.eye(len(who), dtype=bool)
    # A template by either, and a probe of another picture by the target's network.
    similarity = {"native": target @ target.T, "mapped": mapped @ target.T}
    impostors = {name: np.sort(table[~same])[::-1] for name, table in similarity.items()}
    genuine = {name: table[same & other_picture] for name, table in similarity.items()}
    pairs = len(impostors["native"])
    print(f"{len(set(who.tolist()))} people not fitted on, {len(who)} pictures, {pairs} impostor pairs")
    print(f"cosine of a mapped look to the native one of the same picture: mean {(mapped * target).sum(1).mean():.4f}")
    needed = 0.0
    rows = [(rate, round(rate * pairs)) for rate in RATES if round(rate * pairs) >= LEAST_PASSING]
    thresholds = {name: {rate: values[count] for rate, count in rows} for name, values in impostors.items()}
    for rate, _ in rows:
        needed = max(needed, thresholds["mapped"][rate] - thresholds["native"][rate])
    reserve = round(float(np.ceil(round(needed / STEP, 3)) * STEP), 3)
    print(f"reserve {reserve:.3f} (largest difference of the thresholds {needed:.4f})")
    print("rate     threshold native, mapped   missed native, mapped at the native threshold and the reserve")
    for rate, _ in rows:
        native, other = thresholds["native"][rate], thresholds["mapped"][rate]
        missed = [(genuine["native"] < native).mean(), (genuine["mapped"] < native + reserve).mean()]
        print(f"{rate:<7g}  {native:.4f}  {other:.4f}            {missed[0]:.4%}  {missed[1]:.4%}")
    return reserve, pairs


def add(args, target: Sight, space: str, found, reserve: float, pairs: int, source: Sight) -> None:
    picture = Image.open(args.add).convert("RGB")
    other, own = source.look(picture), target.look(picture)
    if other is None or own is None:
        sys.exit(f"models: no face on {args.add}")
    name = f"mapping-{space.removeprefix('sha256:')[:12]}.bin"
    data = affine_map.encode(*found)
    agreement = float(affine_map.apply(other[None], *affine_map.decode(data, len(other)))[0] @ own)
    (args.to / name).write_bytes(data)
    entry = ["", "[[mapping]]", f'from = "{space}"', f'file = "{name}"', f"dimensions = {source.dimensions}"]
    entry += [f"reserve = {reserve}", f"pairs = {pairs}", ""]
    append(args.to / "bundle.toml", "\n".join(entry).encode())
    test = selftest.SelfTest()
    test.bytes += (args.to / "selftest.bin").read_bytes()
    test.mapping(name, other, own, round(max(agreement - MARGIN, 0.0), 3))
    append(args.to / "selftest.toml", "\n".join(["", *test.text]).encode())
    (args.to / "selftest.bin").write_bytes(test.bytes)
    say(f"{name} is in {args.to}: sign it again")


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(data)


def say(line: str) -> None:
    print(f"models: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
