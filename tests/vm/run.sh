#!/usr/bin/env bash
# Boots a whole Debian system with familiar in it, by QEMU without KVM, and looks whether everything comes up by itself:
#
#   tests/vm/run.sh FAMILIAR PICTURES
#
# FAMILIAR is the binary, PICTURES what tools/setup.sh demo prepared. The camera is the kernel's `vivid`: a real V4L2 device in all but
# the lens. Needs root (for the packages' scripts), 4 GB of disk and, with two cores, some ten minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../tools/env.sh"
binary=$1 pictures=$2
work=$target/vm
mkdir -p "$work"

packages=systemd,systemd-sysv,udev,dbus,mosquitto,mosquitto-clients,linux-image-amd64,initramfs-tools,v4l-utils,kmod,iproute2,procps,netbase
base=$work/base-$(sha256sum <<<"$packages" | head -c 12).tar
[ -e "$base" ] || {
  say "A bare system"
  mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" bookworm "$base.part"
  mv "$base.part" "$base"
}

say "familiar in it"
root=$work/root
rm -rf "$root"
mkdir "$root"
tar -xf "$base" -C "$root"
install -Dm755 "$binary" "$root/usr/bin/familiar"
strip "$root/usr/bin/familiar"
install -Dm644 "$top/systemd/familiar.service" "$root/usr/lib/systemd/system/familiar.service"
install -Dm644 "$top/systemd/familiar.sysusers" "$root/usr/lib/sysusers.d/familiar.conf"
mkdir -p "$root/usr/share/familiar/models" "$root/etc/familiar/trust.d" "$root/usr/share/vm/ada"
cp -r "$top/models/facenet" "$root/usr/share/familiar/models/"
cp "$FAMILIAR_TEST_TRUST"/*.pub "$root/etc/familiar/trust.d/"
cat >"$root/etc/familiar/familiar.toml" <<'TOML'
device = "vm"
[camera]
source = "/dev/video0"
[liveness]
mode = "report"    # the scene is made of still pictures
[mqtt]
url = "mqtt://localhost:1883"
TOML
mkdir -m700 "$root/root/listener"
cp "$root/etc/familiar/familiar.toml" "$root/root/listener.toml"

# A camera and, for the scene, a screen that it sees.
echo vivid >"$root/etc/modules-load.d/vivid.conf"
echo 'options vivid n_devs=1 node_types=0x101 num_inputs=1 input_types=0x3 num_outputs=1 output_types=0x1' \
  >"$root/etc/modprobe.d/vivid.conf"
"$target/openpeople/bin/python" -B "$here/scene.py" "$pictures" "$root/usr/share/vm"

install -m755 "$here/guest.sh" "$root/usr/share/vm/guest.sh"
cat >"$root/etc/systemd/system/guest.service" <<'UNIT'
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/share/vm/guest.sh
UNIT
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -sf /usr/lib/systemd/system/familiar.service /etc/systemd/system/guest.service "$wants/"
echo vm >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
rm -f "$work/disk.img"
truncate -s 2G "$work/disk.img"
mkfs.ext4 -q -F -d "$root" "$work/disk.img"
cp "$root"/boot/vmlinuz-* "$work/kernel"
cp "$root"/boot/initrd.img-* "$work/initrd"

say "Boot"
rm -f "$work/report"
SECONDS=0
timeout 2400 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
  -kernel "$work/kernel" -initrd "$work/initrd" -append "console=ttyS0 root=/dev/vda rw quiet" \
  -drive "file=$work/disk.img,if=virtio,format=raw" -display none -monitor none -nic none -no-reboot \
  -serial "file:$work/console" -serial "file:$work/report" </dev/null &
machine=$!
trap 'kill $machine 2>/dev/null || true' EXIT
wait $machine || die "the machine did not switch itself off; see $work/console and $work/report"
cat "$work/report"
say "$(grep -c '^ok ' "$work/report") held, $(grep -c '^FAIL ' "$work/report" || true) did not; $SECONDS s from power-on to power-off"
grep -q '^== END' "$work/report" && ! grep -q '^FAIL ' "$work/report"
