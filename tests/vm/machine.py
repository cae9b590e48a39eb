"""A virtual ARM machine in QEMU, without KVM, and a root shell in it over a virtio port.

The disk is a qcow2 overlay, so that a power cut (SIGKILL) loses what the guest wrote and had not flushed: QEMU keeps the tables of
newly written clusters in its own memory until a flush.
"""

import os
import select
import socket
import subprocess
import time
from pathlib import Path

# The guest's time goes by its instructions, a thousand million a second, however slow or busy this machine is: what times out in the
# guest (a track, a watchdog) does so as on a small device, not as under an emulator. It costs the second processor.
ACCELERATOR, CLOCK = "tcg,thread=single,tb-size=512", ("-icount", "shift=0,sleep=on")

# What one waits for under emulation, in seconds, while others use the same processors.
BOOT = 400
COMMAND = 120


class Dead(Exception):
    """The machine or its shell does not answer."""


def overlay(disk: Path, base: Path) -> Path:
    disk.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base.resolve()), str(disk)], check=True)
    return disk


class Machine:
    def __init__(self, work: Path, disk: Path):
        self.work = work
        self.disk = disk
        self.process: subprocess.Popen | None = None
        self.shell: socket.socket | None = None

    def start(self) -> None:
        """Power on."""
        path = self.work / "shell"
        path.unlink(missing_ok=True)
        kind = "qcow2" if self.disk.suffix == ".qcow2" else "raw"
        command = [
            *("nice", "-n", "5", "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024"),
            *("-accel", ACCELERATOR, *CLOCK, "-display", "none", "-monitor", "none", "-no-reboot"),
            *("-kernel", str(self.work / "vmlinuz"), "-initrd", str(self.work / "initrd")),
            *("-append", "console=ttyAMA0 root=/dev/vda rw quiet systemd.show_status=1"),
            *("-drive", f"file={self.disk},if=none,id=disk,format={kind},cache=writeback", "-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={path},server=on,wait=off"),
            *("-device", "virtserialport,chardev=shell,name=shell"),
            *("-serial", f"file:{self.work / 'console'}"),
        ]
        self.begun = time.monotonic()
        errors = open(self.work / "qemu.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        until = time.monotonic() + 20
        while True:
            self.shell = socket.socket(socket.AF_UNIX)
            try:
                self.shell.connect(str(path))
                break
            except OSError as error:
                self.shell.close()
                if time.monotonic() > until or self.process.poll() is not None:
                    raise Dead((self.work / "qemu.log").read_text()) from error
                time.sleep(0.1)
        self.pending = b""
        self.number = 0

    def up(self) -> float:
        """Seconds since power-on."""
        return time.monotonic() - self.begun

    def cut(self) -> None:
        """Power off, at once."""
        self.process.kill()
        self.gone(30)

    def gone(self, timeout: float) -> None:
        self.process.wait(timeout)
        self.shell.close()
        self.process = None

    def power_off(self) -> None:
        """As an operator would."""
        self.shell.sendall(b"systemctl poweroff\n")
        self.gone(300)

    def wait_for_shell(self) -> None:
        """The first word of the guest's shell, which starts when the port is there."""
        self.run("true", BOOT)

    def run(self, command: str, timeout: float = COMMAND) -> tuple[int, str]:
        """Its exit status and what it said, standard error too."""
        self.number += 1
        mark = f"@@{os.getpid()}.{self.number}@@"
        # The mark is put together in the guest, so that an echo would not be taken for it.
        self.shell.sendall(f"( {command}\n) </dev/null 2>&1; printf '\\n@@%s@@ %s\\n' {mark[2:-2]} $?\n".encode())
        said = self._until(f"\n{mark} ".encode(), timeout)
        status = self._until(b"\n", 10)
        return int(status), said.decode(errors="replace").strip()

    def _until(self, mark: bytes, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        while mark not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.shell], [], [], left)[0]:
                raise Dead(f"no answer after {timeout:.0f} s; so far: {self.pending[-500:]!r}")
            more = self.shell.recv(65536)
            if not more:
                raise Dead("the machine went off")
            self.pending += more
        said, self.pending = self.pending.split(mark, 1)
        return said
