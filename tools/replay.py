"""Recorded people and photographs of them before `familiar run`: who is named, with liveness enforced and without.

    replay.py FAMILIAR WEBCAM BUNDLE TRUST [KIND=ATTACKS...]

WEBCAM holds live/SUBJECT/SEQUENCE/0000.jpg and print/SUBJECT/SEQUENCE/0000.jpg; ATTACKS are further folders laid out as
print is. Each subject is enrolled alone, by four pictures of the first live sequence (its first half, where it is the only
one). Every other live sequence (the second half) and every attack on the subject is a recording of its own, ten frames a
second. Ends with 1 if an attack named its subject while liveness was enforced, or a live sequence did not.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ENROLLED = 4
JOBS = os.cpu_count() or 1


class Device:
    """Who knows one subject."""

    def __init__(self, familiar: str, bundle: Path, trust: Path, work: Path, subject: str, pictures: list[Path]):
        self.familiar, self.bundle, self.work = familiar, bundle, work
        self.home = work / subject
        self.home.mkdir()
        self.enroll(trust, subject, pictures)

    def enroll(self, trust: Path, subject: str, pictures: list[Path]) -> None:
        shutil.copytree(trust, self.home / "trust.d")
        self.configure(self.home, self.work, "off")
        self.call(self.home, "enroll", "--id", f"s{subject}", f"Subject {subject}", *map(str, pictures))

    def call(self, home: Path, *arguments: str) -> str:
        environment = os.environ | {"STATE_DIRECTORY": str(home / "state")}
        environment.pop("CREDENTIALS_DIRECTORY", None)
        command = [self.familiar, "--config", str(home / "familiar.toml"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def configure(self, home: Path, frames: Path, mode: str) -> None:
        (home / "familiar.toml").write_text(
            f'device = "replay"\n[camera]\nsource = {json.dumps(f"replay:{frames}")}\nfps = 10\nspeed = "max"\n'
            f"[models]\nbundle = {json.dumps(str(self.bundle))}\n"
            f'[liveness]\nmode = "{mode}"\n[events]\nunknown = true\n'
        )

    def watch(self, frames: list[Path], mode: str) -> list[dict]:
        """The events of a recording, on a copy of the device."""
        home = Path(tempfile.mkdtemp(dir=self.work))
        try:
            shutil.copytree(self.home, home, dirs_exist_ok=True)
            (home / "frames").mkdir()
            for number, frame in enumerate(frames):
                (home / "frames" / f"{number:04}.jpg").symlink_to(frame.resolve())
            self.configure(home, home / "frames", mode)
            lines = self.call(home, "run", "--stdout").splitlines()
            return [json.loads(json.loads(line)["payload"]) for line in lines]
        finally:
            shutil.rmtree(home)


def sequences(subject: Path) -> list[list[Path]]:
    """A single sequence gives its halves."""
    found = [sorted(sequence.glob("*.jpg")) for sequence in sorted(subject.iterdir())]
    if len(found) > 1:
        return found
    half = len(found[0]) // 2
    return [found[0][:half], found[0][half:]]


def kinds(events: list[dict]) -> set[str]:
    return {event["event_type"] for event in events}


def main(familiar: str, webcam: Path, bundle: Path, trust: Path, more: dict[str, Path]) -> int:
    folders = {"print": webcam / "print"} | more
    with tempfile.TemporaryDirectory() as work:
        devices, recordings = {}, []  # (kind, subject, frames)
        for subject in sorted((webcam / "live").iterdir()):
            first, *others = sequences(subject)
            pictures = [first[at * len(first) // ENROLLED] for at in range(ENROLLED)]
            devices[subject.name] = Device(familiar, bundle, trust, Path(work), subject.name, pictures)
            recordings += [("live", subject.name, frames) for frames in others]
        for kind, folder in folders.items():
            for subject in sorted(folder.iterdir()):
                recordings += [(kind, subject.name, sorted(s.glob("*.jpg"))) for s in sorted(subject.iterdir())]
        tasks = [(mode, *recording) for recording in recordings for mode in ("enforce", "off")]
        with ThreadPoolExecutor(JOBS) as pool:
            told = list(pool.map(lambda task: kinds(devices[task[2]].watch(task[3], task[0])), tasks))

    def count(mode: str, kind: str, subject: str | None, event: str | None) -> int:
        """Recordings in which there was such an event; with `None`, recordings."""
        return sum(
            task[:2] == (mode, kind) and subject in (None, task[2]) and (event is None or event in events)
            for task, events in zip(tasks, told)
        )

    print("| recordings | of | number | recognized, liveness off | recognized, enforced | spoof, enforced |")
    print("|---|---|---|---|---|---|")
    wrong = 0
    for kind in ["live", *folders]:
        for subject in [*sorted(devices), None]:
            number = count("enforce", kind, subject, None)
            if number == 0:
                continue
            named = count("enforce", kind, subject, "recognized")
            print(
                f"| {kind} | {subject or '**all**'} | {number} | {count('off', kind, subject, 'recognized')} | {named} "
                f"| {count('enforce', kind, subject, 'spoof')} |"
            )
            if subject:
                wrong += number - named if kind == "live" else named
    if wrong:
        print(f"{wrong} recordings were judged wrongly", file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    extra = dict(argument.split("=", 1) for argument in sys.argv[5:])
    sys.exit(main(sys.argv[1], *map(Path, sys.argv[2:5]), {kind: Path(folder) for kind, folder in extra.items()}))
