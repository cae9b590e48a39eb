"""Boots a whole Debian for ARM with familiar in it, under emulation, and looks whether everything comes up by itself.

    python run.py WORK FAMILIAR PACKAGE PICTURES [CHAPTER…]

WORK is what root.sh filled. FAMILIAR is this machine's program, which verifies what the broker was told. PACKAGE is the Debian package
for arm64, PICTURES what tools/setup.sh demo prepared. Chapters: all of them, in the order below, on one disk that lives through them;
with names, those alone, on the disk of the last run as it was after `install`. One line for each check, and figures.
"""

import json
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

import image
from broker import Broker, Message
from machine import BOOT, Dead, Machine, overlay

CUTS = 10
# What takes seconds on a Raspberry Pi takes minutes here.
PATIENCE = 400


class Run:
    def __init__(self, work: Path, familiar: str, package: Path, pictures: Path):
        self.work, self.familiar, self.package, self.pictures = work, familiar, package, pictures
        self.broker = Broker(work / "broker")
        self.machine = Machine(work, work / "life.qcow2")
        self.keys = work / "vm.jwk"
        self.passed = self.failed = 0

    # What is said.

    def holds(self, name: str, held: object, detail: object = "") -> bool:
        self.passed, self.failed = self.passed + bool(held), self.failed + (not held)
        print("ok  " if held else "FAIL", name, f"({detail})" if detail else "", flush=True)
        return bool(held)

    def figure(self, what: str, value: object) -> None:
        print("    ", what, value, flush=True)

    # Within the machine.

    def ask(self, command: str, timeout: float = 120) -> str:
        return self.machine.run(command, timeout)[1]

    def awaits(self, command: str, timeout: float = PATIENCE) -> bool:
        """Whether it succeeds within that time; tried in the machine, every second."""
        loop = f"SECONDS=0; until {{ {command}; }} >/dev/null 2>&1; do [ $SECONDS -lt {timeout:.0f} ] || exit 1; sleep 1; done"
        return self.machine.run(loop, timeout + 120)[0] == 0

    def show(self, name: str) -> str:
        return self.ask(f"systemctl show -P {name} familiar")

    def scene(self, who: str, form: str = "YUYV") -> None:
        self.ask(f"ln -sfn /usr/share/vm/{form}/{who} /run/scene")

    def pin(self) -> None:
        """The device's key, by its own word."""
        self.keys.write_text(self.ask("runuser -u familiar -- familiar key show 2>/dev/null"))

    # What the broker was told.

    def verified(self, message: Message) -> bool:
        return self.verify([message.text])[0] == 0

    def verify(self, lines: list[str], *options: str) -> tuple[int, list[dict]]:
        done = subprocess.run(
            [self.familiar, "--config", "/nonexistent.toml", "verify", "--json", "--jwks", str(self.keys), *options],
            input="".join(line + "\n" for line in lines), capture_output=True, text=True, check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def whole_chain(self, name: str) -> bool:
        """Every event from the first to the last, each joined to the one before."""
        events = self.broker.events()
        if not events:
            return self.holds(name, True, "nothing was told yet")
        code, said = self.verify(events, "--chain")
        report = said[-1] if said else {}
        first = min((json.loads(json.loads(event)["payload"])["seq"] for event in events), default=0)
        whole = code == 0 and report.get("ok") is True and first == 1
        return self.holds(name, whole, f"{report.get('events')} events, {report.get('duplicates')} twice, gaps {report.get('gaps')}")

    def health(self, since: int, wanted, timeout: float = PATIENCE) -> Message | None:
        return self.broker.await_(since, lambda m: m.topic == "health" and m.text and wanted(m.payload()), timeout)

    def event(self, since: int, kind: str, timeout: float = PATIENCE) -> Message | None:
        return self.broker.await_(since, lambda m: m.topic == "event" and m.payload()["event_type"] == kind, timeout)


def install(run: Run) -> None:
    """A bare system becomes an appliance: the package, a person, a password, and nothing else by hand."""
    begun = time.monotonic()
    python = str(Path(run.pictures).parent / "bin/python")
    disk = image.build(run.work, run.package, run.pictures, python, run.broker)
    run.figure("building the disk, s:", round(time.monotonic() - begun))
    run.machine.disk = disk
    run.machine.start()
    run.machine.wait_for_shell()
    run.figure("power-on to a shell, s:", round(run.machine.up()))
    status, said = run.machine.run("dpkg -i /usr/share/vm/familiar.deb", 600)
    # Holds APP-19.
    run.holds("package_installs", status == 0, said[-300:] if status else "")
    # Holds APP-19.
    run.holds("nothing_starts_before_it_is_asked_for", run.show("ActiveState") == "inactive" and run.show("UnitFileState") == "disabled")
    run.ask("cp /usr/share/vm/familiar.toml /usr/share/vm/ca.pem /etc/familiar/; chmod 644 /etc/familiar/*.toml /etc/familiar/*.pem")
    status, said = run.machine.run(
        "mkdir -p /etc/systemd/system/familiar.service.d /etc/credstore.encrypted && "
        f"printf %s {run.broker.password} | systemd-creds encrypt --with-key=host --name=mqtt-password - /etc/credstore.encrypted/mqtt-password && "
        "printf '[Service]\\nLoadCredentialEncrypted=mqtt-password:/etc/credstore.encrypted/mqtt-password\\n' "
        ">/etc/systemd/system/familiar.service.d/password.conf && chmod 600 /etc/credstore.encrypted/*"
    )
    # Holds APP-05.
    run.holds("password_is_encrypted_for_this_machine", status == 0, said)
    begun = time.monotonic()
    for who in ("ada", "emil"):
        status, said = run.machine.run(f"runuser -u familiar -- familiar enroll {who.title()} --id {who} /usr/share/vm/photos/{who}.jpg", 900)
        run.holds(f"enrolled_{who}", status == 0, said[-300:] if status else "")
    run.figure("enrolling two people, s:", round(time.monotonic() - begun))
    status, said = run.machine.run("systemctl daemon-reload && systemctl enable familiar && sync")
    run.holds("enabled", status == 0)
    run.machine.power_off()
    run.machine.disk = overlay(run.work / "life.qcow2", disk)


def boot(run: Run) -> None:
    """From power-on to a recognised face, with no hand laid on."""
    since = len(run.broker.heard)
    run.machine.start()
    first = run.health(since, lambda health: True, 2 * BOOT)
    seen = run.event(since, "recognized")
    # Only now is the machine spoken to, and says whose key is to be believed.
    run.machine.wait_for_shell()
    run.pin()
    # Holds APP-01.
    if run.holds("first_health_without_a_hand", first and run.verified(first)):
        run.figure("power-on to the first signed message, s:", round(first.at - run.machine.begun))
    # Holds APP-04.
    if run.holds("recognised_through_v4l2", seen and run.verified(seen) and seen.payload()["person"]["id"] == "ada",
                 seen and f"similarity {seen.payload()['similarity']}"):
        run.figure("power-on to the first face recognised, s:", round(seen.at - run.machine.begun))
    # Holds APP-02.
    run.holds("ready_by_itself", run.show("ActiveState") == "active" and run.show("NRestarts") == "0")
    run.figure("boot of the kernel to READY, s:", round(int(run.show("ActiveEnterTimestampMonotonic") or 0) / 1e6))
    run.figure("start of the unit to READY, s:", run.ask(
        "echo $((($(systemctl show -P ActiveEnterTimestampMonotonic familiar) - $(systemctl show -P InactiveExitTimestampMonotonic familiar)) / 1000000))"))
    watching = run.health(since, lambda h: h["state"] == "watching" and h["camera"].get("frames_per_second", 0) > 0)
    # Holds APP-03.
    run.holds("frames_arrive", watching and run.verified(watching), watching and json.dumps(watching.payload()["camera"]))
    if watching:
        run.figure("latencies, ms:", json.dumps(watching.payload()["latency_ms"]))
    # Holds APP-03.
    run.holds("camera_is_a_v4l2_device", "/dev/video0" in run.ask("ls -l /proc/$(systemctl show -P MainPID familiar)/fd"),
              run.ask("v4l2-ctl -d /dev/video0 --info | sed -n 's/.*Card type *: //p'"))
    entry = run.ask("journalctl -u familiar -o json -n 400 | grep -m1 '\"TARGET\"'")
    # Holds APP-07.
    run.holds("journal_has_fields", all(field in entry for field in ("TARGET", "CODE_FILE", "PRIORITY")))
    # Holds APP-05.
    run.holds("credential_arrives", run.ask("test -e /run/credentials/familiar.service/mqtt-password && echo there") == "there"
              and run.ask("test -e /var/lib/familiar/mqtt-password || echo none") == "none")
    # Holds APP-06.
    run.holds("a_user_of_its_own", run.ask("ps -o user= -p $(systemctl show -P MainPID familiar)") == "familiar")
    # Holds APP-06.
    run.holds("no_listening_port", run.machine.run("! ss -Hltunp | grep -q familiar")[0] == 0)
    run.holds("clock_is_told", watching and watching.payload()["clock"] in ("synchronized", "unsynchronized"), watching and watching.payload()["clock"])
    memory = int(run.ask("cat /sys/fs/cgroup/system.slice/familiar.service/memory.peak") or 0)
    run.figure("memory of the unit, peak, MiB:", round(memory / 2**20))
    run.figure("rest:", run.ask("systemd-analyze time 2>/dev/null | head -1"))
    since = len(run.broker.heard)
    run.scene("empty")
    gone = run.event(since, "departed")
    # Holds APP-04.
    run.holds("departure_is_told", gone and run.verified(gone))
    run.scene("ada")
    run.whole_chain("chain_is_whole")


def cuts(run: Run) -> None:
    """The power goes at random moments, while people come and go; then all that was told is one chain."""
    chance = random.Random()
    on(run)
    run.machine.power_off()
    for number in range(1, CUTS + 1):
        run.machine.start()
        moment = chance.uniform(30, 240)
        since = len(run.broker.heard)
        visits(run, moment)
        run.machine.cut()
        new = len([m for m in run.broker.heard[since:] if m.topic == "event"])
        # Holds APP-08.
        run.whole_chain(f"power_cut_{number}_leaves_a_whole_chain")
        run.figure(f"cut after {moment:.0f} s, events in that time:", new)
    since = len(run.broker.heard)
    run.machine.start()
    # Holds APP-08.
    run.holds("comes_up_after_the_last_cut", run.event(since, "recognized", 2 * BOOT) or run.event(since, "departed", 1))
    run.machine.wait_for_shell()
    # Holds APP-09.
    run.holds("outbox_runs_empty", run.health(len(run.broker.heard), lambda h: h["outbox"].get("depth") == 0))
    # Holds APP-09.
    run.whole_chain("ten_power_cuts_lose_nothing")


def visits(run: Run, moment: float) -> None:
    """Ada comes and goes until that moment after power-on."""
    try:
        run.machine.run("true", max(1.0, moment - run.machine.up()))
        there, since = True, len(run.broker.heard)
        while (left := moment - run.machine.up()) > 0:
            # Whether she is told of or not (she may have been there when the power went), after a while she goes or comes.
            event = run.broker.await_(since, lambda m: m.topic == "event", min(left, 60))
            since, there = len(run.broker.heard), not there
            if left > 5 or event:
                run.machine.run(f"ln -sfn /usr/share/vm/YUYV/{'ada' if there else 'empty'} /run/scene", max(1.0, moment - run.machine.up()))
    except Dead:
        pass  # the moment came before an answer


def tampered(run: Run) -> None:
    """One byte of the network that was altered on the disk."""
    on(run)
    run.ask("systemctl stop familiar", 180)
    since = len(run.broker.heard)
    file = "/usr/share/familiar/models/facenet/embedder.onnx"
    run.ask(f"cp {file} /var/tmp/good && printf '\\001' | dd of={file} bs=1 seek=1000000 conv=notrunc status=none && ! cmp -s {file} /var/tmp/good")
    run.ask("systemctl start familiar", PATIENCE)
    # Holds APP-10.
    run.holds("tampered_model_is_refused", run.show("ExecMainStatus") == "3", run.show("ExecMainStatus"))
    time.sleep(20)
    # Holds APP-10.
    run.holds("tampered_model_is_not_tried_again", run.show("ActiveState") == "failed" and run.show("NRestarts") == "0")
    status = run.ask("systemctl status familiar --no-pager -l")
    # Holds APP-11.
    run.holds("status_says_why", "embedder.onnx" in status, next((line[line.find("familiar["):] for line in status.splitlines() if "embedder.onnx" in line), status[-200:]))
    said = [(m.topic, m.text) for m in run.broker.heard[since:]]
    # Holds APP-11.
    run.holds("nothing_is_told_but_offline", all(one == ("availability", "offline") for one in said), said)
    last = [m.text for m in run.broker.heard if m.topic == "availability"][-1:]
    # Holds APP-11.
    run.holds("broker_says_offline", last == ["offline"])
    run.ask(f"cp /var/tmp/good {file} && systemctl reset-failed familiar && systemctl start familiar", PATIENCE)
    # Holds APP-10.
    run.holds("runs_again_with_the_signed_bytes", run.show("ActiveState") == "active")


def camera(run: Run) -> None:
    """It falls silent; it is pulled out and put in again, at the driver (vivid)."""
    on(run)
    pid, since = run.show("MainPID"), len(run.broker.heard)
    run.ask("systemctl stop scene")
    away = run.health(since, lambda h: h["state"] == "blind")
    # Holds APP-14, CAM-18.
    run.holds("silent_camera_is_told", away and run.verified(away))
    since = len(run.broker.heard)
    run.ask("systemctl start scene")
    back = run.health(since, lambda h: h["state"] == "watching" and h["camera"].get("frames_per_second", 0) > 0)
    # Holds APP-15, CAM-18.
    run.holds("frames_come_again", back and run.verified(back) and run.show("MainPID") == pid)

    since = len(run.broker.heard)
    run.ask("sed -i 's|/dev/video0|/dev/video10|' /etc/familiar/familiar.toml && systemctl restart familiar", PATIENCE)
    watching = run.health(since, lambda h: h["camera"]["name"] == "video10" and h["camera"].get("frames_per_second", 0) > 0)
    # Holds APP-13.
    run.holds("vivid_gives_frames", watching and run.verified(watching), watching and watching.payload()["camera"].get("format"))
    pid, since = run.show("MainPID"), len(run.broker.heard)
    run.ask("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    away = run.health(since, lambda h: h["state"] == "blind")
    # Holds STA-10, APP-14, CAM-18.
    run.holds("unplugged_camera_is_told", away and run.verified(away) and run.machine.run("test ! -e /dev/video10")[0] == 0)
    since = len(run.broker.heard)
    run.ask("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind")
    back = run.health(since, lambda h: h["state"] == "watching" and h["camera"].get("frames_per_second", 0) > 0)
    # Holds STA-10, APP-15, CAM-18.
    run.holds("camera_that_returns_is_opened_again", back and run.verified(back) and run.show("ActiveState") == "active" and run.show("NRestarts") == "0",
              "the same process" if run.show("MainPID") == pid else "a new process")

    run.ask("systemctl stop familiar; echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind", 180)
    # Without its camera it ends, and is tried again until there is one.
    run.ask("systemctl start --no-block familiar")
    away = run.awaits("[ $(systemctl show -P ExecMainStatus familiar) = 4 ]")
    since = len(run.broker.heard)
    run.ask("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind")
    came = run.health(since, lambda h: h["state"] == "watching" and h["camera"].get("frames_per_second", 0) > 0)
    # Holds APP-15.
    run.holds("camera_that_comes_after_the_daemon_is_opened", away and came and run.verified(came))
    other = run.ask("systemctl show -P MainPID familiar; systemctl start familiar-camera@video0; systemctl show -P MainPID familiar", PATIENCE).split()
    # Holds APP-16.
    run.holds("who_has_a_camera_is_left_alone", len(other) == 2 and other[0] == other[1] != "0", other)
    run.ask("sed -i 's|/dev/video10|/dev/video0|' /etc/familiar/familiar.toml && systemctl restart familiar", PATIENCE)
    own = run.ask("ls /proc/$(systemctl show -P MainPID familiar)/root/dev")
    # Holds APP-17.
    run.holds("no_device_but_cameras_and_the_harmless", "video0" in own and "vda" not in own and "mem" not in own.split(), own.replace("\n", " "))


def second(run: Run) -> None:
    """Another camera is another device, beside the first: its own name, key, people and topics. Both with the drop-in for chrony."""
    on(run)
    run.ask("install -d /etc/familiar/garden && ln -s ../trust.d /etc/familiar/garden/trust.d && ln -s ../ca.pem /etc/familiar/garden/ca.pem && "
            "sed 's|/dev/video0|/dev/video10|; s|^device = .*|device = \"garden\"|' /etc/familiar/familiar.toml >/etc/familiar/garden/familiar.toml && "
            "for unit in familiar familiar@; do install -D -m644 /usr/share/vm/chrony.conf /etc/systemd/system/$unit.service.d/chrony.conf; done && "
            "install -D -m644 /etc/systemd/system/familiar.service.d/password.conf /etc/systemd/system/familiar@.service.d/password.conf && systemctl daemon-reload")
    before = run.show("MainPID")
    status, said = run.machine.run("systemctl restart familiar && systemctl enable --now familiar@garden", PATIENCE)
    # Holds APP-18.
    run.holds("second_camera_starts", status == 0, said[-200:])
    # Holds APP-18.
    run.holds("second_camera_watches", run.awaits("ls -l /proc/$(systemctl show -P MainPID familiar@garden)/fd | grep -q video10"))
    key = "runuser -u familiar -- env STATE_DIRECTORY=/var/lib/familiar-garden familiar --config /etc/familiar/garden/familiar.toml key show 2>/dev/null"
    theirs = run.ask(key)
    # Holds APP-18.
    run.holds("second_camera_has_a_key_of_its_own", '"kty"' in theirs and theirs != run.keys.read_text(), theirs[:60])
    # Holds APP-18.
    run.holds("first_goes_on_beside_it", run.show("ActiveState") == "active" and run.show("MainPID") not in ("0", before))
    run.ask("systemctl disable --now familiar@garden; rm -r /etc/familiar/garden /etc/systemd/system/familiar*.service.d/chrony.conf; systemctl daemon-reload; systemctl restart familiar", PATIENCE)


def confined(run: Run) -> None:
    """What the daemon gave up by itself (Landlock), beside what its unit keeps from it."""
    on(run)
    said = run.ask("journalctl -b -u familiar -o cat | grep -m1 Landlock")
    # Holds STA-25.
    run.holds("landlock_confines_the_daemon", "Landlock confines files" in said, said)
    report = run.ask("runuser -u familiar -- familiar check 2>&1 | grep -i landlock", PATIENCE)
    run.holds("check_says_so", report.strip().startswith("ok"), report)
    # It asks for a folder that it has given up: told, and all goes on as it was.
    before = run.show("MainPID")
    run.ask("cp /etc/familiar/familiar.toml /var/tmp/before.toml; mkdir -p /srv/recorded; "
            "sed -i 's|^source = .*|source = \"replay:/srv/recorded\"|' /etc/familiar/familiar.toml; systemctl reload familiar", PATIENCE)
    # Holds STA-28.
    run.holds("what_was_given_up_is_not_had_again", run.awaits("journalctl -b -u familiar -o cat | grep -q 'given up'", PATIENCE)
              and run.show("MainPID") == before and run.show("ActiveState") == "active")
    run.ask("cp /var/tmp/before.toml /etc/familiar/familiar.toml; systemctl reload familiar")


def watchdog(run: Run) -> None:
    """A process that no longer moves is ended and started anew."""
    on(run)
    before, since = run.show("MainPID"), len(run.broker.heard)
    run.ask("kill -STOP $(systemctl show -P MainPID familiar)")
    begun = time.monotonic()
    # Holds STA-22.
    run.holds("wedged_process_is_ended", run.awaits("[ $(systemctl show -P NRestarts familiar) = 1 ]")
              and "watchdog" in run.ask("journalctl -b -u familiar -o cat -n 50 | grep -i watchdog").lower())
    run.figure("wedged to ended, s:", round(time.monotonic() - begun))
    back = run.health(since, lambda h: h["uptime"] < 120 and h["camera"].get("frames_per_second", 0) > 0)
    # Holds STA-22.
    run.holds("wedged_process_is_replaced", back and run.verified(back) and run.show("MainPID") != before)


def formats(run: Run) -> None:
    """Each format that a camera may give: the device offers that one alone, and a face is recognised in it."""
    on(run)
    for form in ("YUYV", "NV12", "RGB3", "GREY", "MJPG"):
        run.ask("systemctl stop familiar scene", 180)
        run.ask(f"echo FORMAT={form} >/run/format; ln -sfn /usr/share/vm/{form}/ada /run/scene; systemctl start scene; sleep 2")
        since = len(run.broker.heard)
        run.ask("systemctl start familiar", PATIENCE)
        seen = run.health(since, lambda h: h["camera"].get("frames_per_second", 0) > 0 and form in h["camera"].get("format", ""))
        # Holds APP-12.
        run.holds(f"frames_arrive_as_{form}", seen and run.verified(seen), seen and seen.payload()["camera"]["format"])
        # Who was present before stays so, and is told again as an event of this start.
        event = run.event(since, "recognized")
        # Holds APP-12.
        run.holds(f"recognised_as_{form}", event and run.verified(event), event and f"similarity {event.payload()['similarity']}")
    # What vivid draws itself, in each format that both know, passed on as it is.
    for form in ("NV12", "RGB3", "GREY"):
        run.ask("systemctl stop familiar scene", 180)
        run.machine.run(
            f"(v4l2-ctl -d /dev/video10 --set-fmt-video=width=640,height=480,pixelformat={form} --stream-mmap --stream-to=- 2>/dev/null "
            f"| /usr/share/vm/player /dev/video0 {form} 640 480 5 -) >/dev/null 2>&1 & echo $! >/run/vivid; sleep 5"
        )
        since = len(run.broker.heard)
        run.ask("systemctl start familiar", PATIENCE)
        seen = run.health(since, lambda h: h["camera"].get("frames_per_second", 0) > 0 and form in h["camera"].get("format", ""))
        # Holds APP-13.
        run.holds(f"vivid_frames_arrive_as_{form}", seen and run.verified(seen))
        run.ask("pkill player")
    run.ask("rm /run/format /run/scene; systemctl start scene; systemctl restart familiar", PATIENCE)


def package(run: Run) -> None:
    """A newer package keeps what was set and who is known; a purge leaves nothing."""
    on(run)
    kept = "sha256sum /etc/familiar/familiar.toml | head -c 64; runuser -u familiar -- familiar people --json 2>/dev/null"
    before, since = run.ask(kept), len(run.broker.heard)
    status, said = run.machine.run("DEBIAN_FRONTEND=noninteractive dpkg -i /usr/share/vm/newer.deb", 900)
    # Holds APP-20.
    run.holds("package_upgrades", status == 0 and run.ask("dpkg-query -Wf '${Version}' familiar") == "9.9.9", said[-300:] if status else "")
    # Holds APP-20.
    run.holds("configuration_and_gallery_survive", run.ask(kept) == before and "ada" in before)
    back = run.health(since, lambda h: h["camera"].get("frames_per_second", 0) > 0)
    # Holds APP-20.
    run.holds("upgraded_service_runs_by_itself", back and run.verified(back) and run.show("UnitFileState") == "enabled")
    # Holds APP-20.
    run.whole_chain("chain_goes_on_over_the_upgrade")
    status, said = run.machine.run("DEBIAN_FRONTEND=noninteractive dpkg -P familiar", 600)
    # Holds APP-21.
    run.holds("package_purges", status == 0, said[-300:] if status else "")
    left = run.ask("ls -d /var/lib/familiar /etc/familiar /usr/bin/familiar /usr/share/familiar /lib/systemd/system/familiar.service "
                   "/etc/systemd/system/multi-user.target.wants/familiar.service 2>/dev/null; systemctl daemon-reload; pgrep -x familiar")
    # Holds APP-21.
    run.holds("purge_leaves_nothing", left == "", left)
    last = [m.text for m in run.broker.heard if m.topic == "availability"][-1:]
    # Holds APP-21.
    run.holds("purged_device_is_offline", last == ["offline"])


def on(run: Run) -> None:
    """The machine is up and its daemon runs."""
    if not run.machine.process:
        run.machine.start()
        run.machine.wait_for_shell()
    run.awaits("systemctl is-active familiar", 2 * BOOT)
    run.pin()


CHAPTERS = {chapter.__name__: chapter for chapter in (install, boot, confined, tampered, camera, second, watchdog, formats, cuts, package)}


def main() -> int:
    work, familiar, package, pictures, *names = sys.argv[1:]
    run = Run(Path(work), familiar, Path(package), Path(pictures))
    begun = time.monotonic()
    if names and "install" not in names:
        overlay(run.machine.disk, run.work / "disk.img")
    try:
        for name in names or CHAPTERS:
            print(f"\n== {name}: {CHAPTERS[name].__doc__}", flush=True)
            try:
                CHAPTERS[name](run)
            except (Dead, OSError, subprocess.SubprocessError) as error:
                traceback.print_exc()
                run.holds(f"{name}_was_gone_through", False, error)
    finally:
        if run.machine.process:
            run.machine.cut()
        run.broker.stop()
        (run.work / "events.jsonl").write_text("".join(event + "\n" for event in run.broker.events()))
    print(f"\n{run.passed} held, {run.failed} did not; {time.monotonic() - begun:.0f} s", flush=True)
    return int(run.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
