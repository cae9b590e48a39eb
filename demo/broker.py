"""A real Mosquitto on a free loopback port, for the duration of the demo."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


class Broker:
    def __init__(self, folder: Path):
        program = shutil.which("mosquitto")
        if program is None:
            sys.exit("there is no mosquitto here; tools/setup.sh installs it")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "log_dest stderr\nlog_type error\nlog_type warning\nlog_type subscribe\n"
        )
        self.log = folder / "mosquitto.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([program, "-c", config], stderr=log, stdout=log, start_new_session=True)
        self.wait(self.answers, "mosquitto did not start")

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def await_subscriptions(self, topic: str, number: int) -> None:
        """Waits until `number` clients have subscribed to the topic, so that none misses a message."""
        # Mosquitto writes `TIME: CLIENT QOS TOPIC`.
        found = lambda: sum(line.endswith(f" {topic}") for line in self.log.read_text().splitlines()) >= number
        self.wait(found, f"nobody subscribed to {topic}")

    def wait(self, done, otherwise: str) -> None:
        end = time.monotonic() + 30
        while not done():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"{otherwise}:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
