"""The disk of the virtual machine: the cached root with a camera, a scene and a shell, and familiar's package laid ready."""

import shutil
import subprocess
from pathlib import Path

from broker import HOST, Broker

SIZE = "3G"
CAMERA = "v4l2loopback video_nr=0 card_label=room max_buffers=4"
VIVID = "vivid n_devs=1 node_types=0x1 vid_cap_nr=10"

# As an operator would write it. Liveness decides nothing, because the scene is made of still pictures.
CONFIGURATION = """\
device = "vm"
[camera]
source = "/dev/video0"
fps = 5
[liveness]
mode = "report"
[events]
departed_after = "10s"
[mqtt]
url = "mqtts://{host}:{port}"
username = "vm"
ca = "/etc/familiar/ca.pem"
"""

FILES = {
    "etc/modules-load.d/cameras.conf": "v4l2loopback\nvivid\n",
    "etc/modprobe.d/cameras.conf": "".join(f"options {module}\n" for module in (CAMERA, VIVID)),
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/systemd/network/any.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n",
    "etc/systemd/journald.conf.d/kept.conf": "[Journal]\nStorage=persistent\n",
    # The room before the camera; /run/scene says who is in it.
    "etc/systemd/system/scene.service": """\
[Unit]
After=systemd-modules-load.service
Before=familiar.service
[Service]
Environment=FORMAT=YUYV
EnvironmentFile=-/run/format
ExecStartPre=/bin/sh -c '[ -e /run/scene ] || ln -s /usr/share/vm/$FORMAT/ada /run/scene'
ExecStart=/usr/share/vm/player /dev/video0 $FORMAT 640 480 5 /run/scene
Restart=always
RestartSec=1
""",
    "etc/systemd/system/shell.service": """\
[Unit]
Wants=dev-virtio\\x2dports-shell.device
After=dev-virtio\\x2dports-shell.device
[Service]
Environment=HOME=/root LANG=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0
WorkingDirectory=/root
ExecStart=/bin/sh -c 'exec 3<>/dev/virtio-ports/shell; exec bash --noprofile --norc <&3 >&3 2>&1'
Restart=always
IgnoreSIGPIPE=no
""",
}
ENABLED = {
    "multi-user.target.wants": ("/etc/systemd/system/scene.service", "/etc/systemd/system/shell.service", "/lib/systemd/system/systemd-networkd.service"),
    "network-online.target.wants": ("/lib/systemd/system/systemd-networkd-wait-online.service",),
}
# What would take time of the emulated processor for nothing.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_reap.service", "fstrim.timer", "dpkg-db-backup.timer")


def build(work: Path, package: Path, pictures: Path, python: str, broker: Broker) -> Path:
    """A raw disk, with nothing of familiar installed."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-xf", work / "base.tar", "-C", root, "--exclude=./dev/*"], check=True)
    subprocess.run(["cp", "-a", work / "modules" / "lib" / "modules", root / "lib"], check=True)
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    units = root / "etc/systemd/system"
    for target, links in ENABLED.items():
        (units / target).mkdir(exist_ok=True)
        for link in links:
            (units / target / Path(link).name).symlink_to(link)
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    # One's own, so that nothing waits to be asked at a first boot.
    (root / "etc/machine-id").write_text(subprocess.run(["systemd-id128", "new"], check=True, capture_output=True, text=True).stdout)

    share = root / "usr/share/vm"
    subprocess.run([python, "-B", Path(__file__).with_name("scene.py"), pictures, share], check=True)
    shutil.copy(work / "player", share)
    shutil.copy(package, share / "familiar.deb")
    shutil.copy(Path(__file__).parents[2] / "systemd/chrony.conf", share)
    shutil.copy(broker.folder / "ca.pem", share)
    (share / "familiar.toml").write_text(CONFIGURATION.format(host=HOST, port=broker.port))
    newer(package, share / "newer.deb", work / "newer")

    disk = work / "disk.img"
    disk.unlink(missing_ok=True)
    subprocess.run(["truncate", "-s", SIZE, disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, disk], check=True)
    shutil.rmtree(root)
    return disk


def newer(package: Path, into: Path, scratch: Path) -> None:
    """The same package as version 9.9.9, as an upgrade."""
    shutil.rmtree(scratch, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", package, scratch], check=True)
    control = scratch / "DEBIAN/control"
    lines = ["Version: 9.9.9" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", scratch, into], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(scratch)
