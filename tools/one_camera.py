"""People before one camera, each enrolled alone: lays out links for `familiar evaluate`, and adds up its reports."""

import json
import sys
from pathlib import Path

ENROLLED = 4
STEP = 8


def link(frames: list[Path], folder: Path, prefix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        (folder / f"{prefix}{number:04}.jpg").symlink_to(frame.resolve())


def lay(live: Path, enrolled: str, out: Path) -> None:
    for subject in sorted(live.iterdir()):
        sequences = [sorted(sequence.glob("*.jpg")) for sequence in sorted(subject.iterdir())]
        if subject.name != enrolled:
            link([f for frames in sequences for f in frames[::STEP]], out / "strangers" / subject.name, "")
            continue
        if len(sequences) == 1:
            half = len(sequences[0]) // 2
            sequences = [sequences[0][:half], sequences[0][half:]]
        first, *others = sequences
        spread = [first[at * len(first) // ENROLLED] for at in range(ENROLLED)]
        folder = out / "people" / enrolled
        link(spread, folder, "a")  # before the probes in name order
        link([f for frames in others for f in frames[::STEP]], folder, "b")


def add_up(reports: list[Path]) -> None:
    sums: dict[tuple, list[int]] = {}
    for report in reports:
        for point in json.loads(report.read_text())["points"]:
            if "configured" not in point:
                continue
            wanted = point["configured"]
            key = (point["looks"], wanted["false_match_rate"], wanted["reserve"] > 0)
            own = sums.setdefault(key, [0] * 5)
            matches = wanted["false_matches"]
            counts = [matches["count"], matches["of"], matches["count"] > 0, point["misses"]["count"], point["misses"]["of"]]
            for at, count in enumerate(counts):
                own[at] += count
    print("looks  wanted  reserve  false matches  templates with one  missed")
    for (looks, rate, reserve), (matches, of, templates, missed, probes) in sorted(sums.items()):
        share = 100 * matches / max(of, 1)
        print(
            f"{looks:<5}  {rate:<6g}  {'yes' if reserve else 'no':<7}  {matches} of {of} ({share:.2f} %)  "
            f"{templates} of {len(reports)}  {missed} of {probes}"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lay", live, subject, out]:
            lay(Path(live), subject, Path(out))
        case ["sum", *reports]:
            add_up([Path(report) for report in reports])
        case _:
            sys.exit("one_camera.py lay LIVE SUBJECT OUT | sum REPORT...")
