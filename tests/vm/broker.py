"""A real Mosquitto on this machine's loopback, with TLS and a password, and all that it is told, kept."""

import json
import secrets
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# As the guest of QEMU's user network reaches this machine's loopback.
HOST = "10.0.2.2"


@dataclass(frozen=True)
class Message:
    at: float
    """Monotonic, seconds."""
    topic: str
    """Below familiar/vm/."""
    text: str

    def payload(self) -> dict:
        """What it claims; verified by Broker.verified alone."""
        return json.loads(json.loads(self.text)["payload"])


class Broker:
    def __init__(self, folder: Path):
        """The certificate, the password and the port are made once for a folder: the guest's disk has them."""
        self.folder = folder
        self.heard: list[Message] = []
        if not (folder / "mosquitto.conf").exists():
            self._prepare()
        self.password = (folder / "secret").read_text()
        self.port = int((folder / "port").read_text())
        self.log = open(folder / "mosquitto.log", "wb")
        self.server = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stdout=self.log, stderr=self.log)
        until = time.monotonic() + 10
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            if time.monotonic() > until:
                raise RuntimeError((folder / "mosquitto.log").read_text())
            time.sleep(0.1)
        topic = ["-t", "familiar/vm/#", "-q", "1", "-F", "%t %p"]
        login = ["-u", "listener", "-P", self.password, "--cafile", folder / "ca.pem"]
        self.ear = subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), *login, *topic], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / "port").write_text(str(port))
        (self.folder / "secret").write_text(secrets.token_hex(16))
        (self.folder / "users").touch(mode=0o600)
        for user in ("vm", "listener"):
            subprocess.run(["mosquitto_passwd", "-b", self.folder / "users", user, (self.folder / "secret").read_text()], check=True)
        names = f"subjectAltName=IP:{HOST},IP:127.0.0.1"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "30", "-subj", "/CN=test",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "ca.pem", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"],
            check=True, capture_output=True,
        )
        (self.folder / "mosquitto.conf").write_text(
            f"user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {self.folder}/users\n"
            f"certfile {self.folder}/ca.pem\nkeyfile {self.folder}/key.pem\npersistence false\n"
        )

    def _listen(self) -> None:
        for line in self.ear.stdout:
            topic, _, text = line.rstrip("\n").partition(" ")
            self.heard.append(Message(time.monotonic(), topic.removeprefix("familiar/vm/"), text))

    def await_(self, since: int, wanted, timeout: float) -> Message | None:
        """The first message from number `since` on that is `wanted`."""
        until = time.monotonic() + timeout
        while True:
            for number in range(since, len(self.heard)):
                if wanted(self.heard[number]):
                    return self.heard[number]
                since = number + 1
            if time.monotonic() > until:
                return None
            time.sleep(0.2)

    def events(self) -> list[str]:
        return [message.text for message in list(self.heard) if message.topic == "event"]

    def stop(self) -> None:
        for process in (self.ear, self.server):
            process.terminate()
            process.wait(10)
