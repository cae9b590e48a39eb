"""The demo: people are enrolled, a camera sees them, signed events arrive, and all are checked.

    python run.py FAMILIAR [CAMERA]

Without CAMERA the demo plays a recorded scene and knows which events must arrive: it ends with 1 if one
is missing, wrong or cannot be verified. With CAMERA (such as /dev/video0) it enrols you from that camera
and runs until Ctrl-C.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path

from broker import Broker
from cast import CAST
from scene import FPS, record

HERE = Path(__file__).resolve().parent
DEVICE = "demo"


class Wrong(Exception):
    """The demo did not show what it must."""


class Demo:
    def __init__(self, familiar: str, folder: Path, source: str, pictures: Path | None = None):
        self.familiar, self.folder, self.pictures = familiar, folder, pictures
        self.broker = Broker(folder)
        self.config = folder / "familiar.toml"
        # The recorded scene is made of still pictures, so nobody in it is live: liveness is reported and decides nothing.
        # Without liveness networks in the bundle, `run` warns that liveness is off.
        liveness = "report" if pictures else "auto"
        self.config.write_text(
            f'device = "{DEVICE}"\n\n'
            f"[camera]\nsource = {json.dumps(source)}\nwidth = 640\nheight = 480\nfps = {FPS}\n\n"
            f"[models]\nbundle = {json.dumps(os.environ['FAMILIAR_TEST_BUNDLE'])}\n\n"
            f'[liveness]\nmode = "{liveness}"\n\n'
            '[events]\nunknown = true\ndeparted_after = "2s"\n\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.broker.port}"\n'
        )
        (folder / "trust.d").mkdir()
        for anchor in Path(os.environ["FAMILIAR_TEST_TRUST"]).glob("*.pub"):
            shutil.copy(anchor, folder / "trust.d")

    def command(self, *arguments) -> list[str]:
        return [self.familiar, "--config", str(self.config), *map(str, arguments)]

    def state(self, owner: str) -> dict[str, str]:
        """The environment of a process with a state of its own."""
        folder = self.folder / owner
        folder.mkdir(mode=0o700, exist_ok=True)
        return os.environ | {"STATE_DIRECTORY": str(folder)}

    def show_verb(self, who: str, *arguments, stdin=subprocess.DEVNULL) -> int:
        """Runs a verb on the device and shows its output."""
        show(f"$ familiar {shlex.join(arguments)}")
        process = subprocess.Popen(
            self.command(*arguments), cwd=self.pictures,
            env=self.state("device"), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        try:
            echo(process.stdout, who)
            return process.wait()
        except KeyboardInterrupt:  # the process received it too, and ends by itself
            echo(process.stdout, who)
            return process.wait()

    @contextlib.contextmanager
    def consumers(self):
        """Three subscribers: one whose output is shown, one for the check, and mosquitto_sub."""
        with (self.folder / "listened.jsonl").open("w") as listened, (self.folder / "received.jsonl").open("w") as raw:
            start = lambda command, owner, out: subprocess.Popen(
                command, env=self.state(owner), start_new_session=True, text=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=(self.folder / f"{owner}.log").open("w"),
            )
            eyes = start(self.command("listen"), "listener", subprocess.PIPE)
            threading.Thread(target=echo, args=(eyes.stdout, "listen"), daemon=True).start()
            check = start(self.command("listen", "--json"), "checker", listened)
            port = str(self.broker.port)
            foreign = start(
                ["mosquitto_sub", "-p", port, "-h", "127.0.0.1", "-q", "1", "-t", f"familiar/{DEVICE}/event"], "foreign", raw,
            )
            try:
                self.broker.await_subscriptions(f"familiar/{DEVICE}/#", 2)
                self.broker.await_subscriptions(f"familiar/{DEVICE}/event", 1)
                yield
                # The broker forwards at once; wait a moment for the last message.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    eyes.wait(1)
            finally:
                for process in (eyes, check, foreign):
                    process.send_signal(signal.SIGINT)
                self.listened = [eyes.wait(10), check.wait(10)]
                foreign.wait(10)

    def verified_events(self) -> list[dict]:
        """The events that the checking listener verified; any message that it did not verify is an error."""
        if self.listened != [0, 0]:
            raise Wrong(f"listen ended with {self.listened}, not with 0: a message was not verified")
        events = {}
        for line in (self.folder / "listened.jsonl").read_text().splitlines():
            verdict = json.loads(line)
            if verdict["topic"] == f"familiar/{DEVICE}/event":
                if not verdict["verified"]:
                    raise Wrong(f"not verified: {verdict['reason']}")
                event = json.loads(verdict["payload"])
                events.setdefault(event["id"], event)  # delivery is at least once: drop duplicates
        return list(events.values())

    def verify(self, messages: Path, *options) -> subprocess.CompletedProcess:
        """`familiar verify` with the key that `familiar key show` prints on the device, not one from the broker."""
        key = subprocess.run(
            self.command("key", "show"), env=self.state("device"), capture_output=True, text=True, check=True
        )
        trusted = self.folder / "device.jwk"
        trusted.write_text(key.stdout)
        return subprocess.run(
            self.command("verify", messages, "--jwks", trusted, "--json", *options),
            env=self.state("verifier"), capture_output=True, text=True, check=False,
        )

    def check_chain(self, expected: int) -> None:
        """Order and completeness of what mosquitto_sub received."""
        outcome = self.verify(self.folder / "received.jsonl", "--chain")
        if outcome.returncode != 0:
            raise Wrong(f"verify --chain ended with {outcome.returncode}: {outcome.stderr.strip()}")
        report = json.loads(outcome.stdout.splitlines()[-1])
        if not report["ok"] or report["events"] != expected:
            raise Wrong(f"the chain does not hold the {expected} events that `listen` received: {report}")
        show(f"familiar verify --chain: {report['events']} events, no gaps, each signed by the device and linked to its predecessor")

    def check_forgery(self) -> None:
        """The verifier must also refuse: a demo that accepts everything shows nothing."""
        message = json.loads((self.folder / "received.jsonl").read_text().splitlines()[0])
        message["payload"] = message["payload"].replace('"Ada"', '"Eve"')
        forged = self.folder / "forged.jsonl"
        forged.write_text(json.dumps(message) + "\n")
        outcome = self.verify(forged)
        if outcome.returncode != 3:
            raise Wrong(f"a forged message was not refused (verify ended with {outcome.returncode})")
        show("the first event with the name changed: refused, as it must be")


# Holds EVT-22.
def recorded(familiar: str, folder: Path) -> None:
    pictures = Path(os.environ["FAMILIAR_OPENPEOPLE"])
    scene = scene_of(pictures)
    demo = Demo(familiar, folder, f"replay:{scene / 'frames'}", pictures)
    try:
        headline("1. Enrol three people from some of their pictures")
        for person in CAST:
            if person.enrolled:
                code = demo.show_verb("enroll", "enroll", person.name, "--id", person.id, *person.photos())
                if code != 0:
                    raise Wrong(f"enrolling {person.name} ended with {code}")
        headline("2. They and a stranger appear before the camera, in other pictures (45 seconds)")
        with demo.consumers():
            code = demo.show_verb("run", "run")
        if code != 0:
            raise Wrong(f"familiar run ended with {code}")
        headline("3. Check what arrived")
        events = demo.verified_events()
        compare([(e["event_type"], (e.get("person") or {}).get("id")) for e in events], expected())
        demo.check_chain(len(events))
        demo.check_forgery()
        if not has_liveness():
            show(
                "\nNOTE: this model bundle has NO LIVENESS networks: a photograph of a person passes for that person.\n"
                "models/README.md says where to get them."
            )
    finally:
        demo.broker.stop()


def has_liveness() -> bool:
    manifest = Path(os.environ["FAMILIAR_TEST_BUNDLE"]) / "bundle.toml"
    return bool(tomllib.loads(manifest.read_text()).get("liveness"))


def expected() -> list[tuple[str, str | None]]:
    events = []
    for person in CAST:
        events += [("recognized", person.id), ("departed", person.id)] if person.enrolled else [("unknown", None)]
    return events


def compare(came: list, due: list) -> None:
    for place in range(max(len(came), len(due))):
        one = came[place] if place < len(came) else None
        other = due[place] if place < len(due) else None
        if one != other:
            raise Wrong(f"event {place + 1} is {named(one)}, expected {named(other)}")
        show(f"{named(one)}: received in order, verified")


def named(event) -> str:
    return "missing" if event is None else f"{event[0]} {event[1] or '(nobody enrolled)'}"


def scene_of(pictures: Path) -> Path:
    """The recorded scene; made on first use and when its recipe has changed."""
    recipe = b"".join((HERE / name).read_bytes() for name in ("scene.py", "cast.py", "requirements.txt"))
    folder = HERE / ".work" / f"scene-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if not (folder / "scene.json").exists():
        headline("0. Record the scene")
        shutil.rmtree(HERE / ".work", ignore_errors=True)
        record(pictures, folder)
    return folder


def live(familiar: str, folder: Path, camera: str) -> None:
    demo = Demo(familiar, folder, camera)
    try:
        headline("1. Enrol you from the camera; only embeddings are kept, and only while the demo runs")
        name = input("Your name: ").strip()
        if not name or demo.show_verb("enroll", "enroll", name, "--live", stdin=None) != 0:
            raise Wrong("nobody was enrolled")
        headline("2. Leave the picture and come back; Ctrl-C ends the demo")
        with demo.consumers():
            code = demo.show_verb("run", "run")
        if code not in (0, -signal.SIGINT):
            raise Wrong(f"familiar run ended with {code}")
        headline("3. Check what arrived")
        if events := demo.verified_events():
            demo.check_chain(len(events))
        else:
            show("no event arrived")
    finally:
        demo.broker.stop()


def headline(text: str) -> None:
    show(f"\n{text}")


def show(text: str) -> None:
    print(text, flush=True)


def echo(stream, who: str) -> None:
    for line in stream:
        show(f"{who:>8} | {line.rstrip()}")


def main() -> int:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    familiar, camera = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None
    if camera and not Path(camera).exists():
        sys.exit(f"there is no {camera}")
    if camera and not sys.stdin.isatty():
        sys.exit("enrolling from the camera needs a terminal")
    folder = Path(tempfile.mkdtemp(prefix="familiar-demo-"))
    try:
        live(familiar, folder, camera) if camera else recorded(familiar, folder)
    except Wrong as wrong:
        show(f"\nThe demo FAILED: {wrong}\nIts files are kept in {folder}")
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        return 130
    shutil.rmtree(folder)
    show("\nThe demo passed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
