#!/usr/bin/env bash
# Whether Debian's own systemd-run takes every setting that `familiar check` hands it, in a small Debian where nothing is booted.
#
#   packaging/check_in_unit.sh DEB [RELEASE]     as root; RELEASE is Debian's: bookworm (12), the default, or trixie (13)
#
# systemd-run takes a command line apart before it sends anything, and refuses what it does not know or cannot read. What it sends it to here is
# a message bus on which no systemd is; so its answer must be that the unit could not be started, and nothing earlier.
set -euo pipefail
. "$(dirname "$0")/../tools/env.sh"
. "$top/tools/debian_root.sh"
deb=$1 release=${2:-bookworm}
root=$target/deb/check-in-unit-$release

inside() {
  local base
  base=$(debian_base "$release" systemd systemd dbus-daemon libgcc-s1)
  mkdir -p "$root"
  mount -t tmpfs -o mode=755 tmpfs "$root"
  tar -xf "$base" -C "$root"
  mount_system "$root"
  cp "$deb" "$root/familiar.deb"
  cat >"$root/bus.conf" <<'END'
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow own="*"/><allow user="*"/></policy>
</busconfig>
END
  cat >"$root/within.sh" <<'END'
set -eu
dpkg -i /familiar.deb >/dev/null
# What systemd-run takes for a running systemd.
mkdir -p /run/systemd/system /run/dbus
dbus-daemon --config-file=/bus.conf --fork --nopidfile
echo secret | familiar setup --device porch --broker mqtt://127.0.0.1:1 --username porch --password-file - --no-check 2>/dev/null
familiar check || true
# One more setting, which no systemd knows: this must be noticed.
printf '[Service]\nNoSuchSetting=1\n' >/etc/systemd/system/familiar.service.d/wrong.conf
familiar check || true
END
  local said units
  said=$(chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh /within.sh 2>&1)
  units=$(grep '^ok *unit ' <<<"$said") || { echo "$said"; die "check did not look with the unit's credentials"; }
  grep -q 'was not started (Failed to start transient service unit: ' <<<"$(sed -n 1p <<<"$units")" || { echo "$units"; die "systemd-run of $release does not take a setting of the unit"; }
  # Holds CHK-07.
  grep -q NoSuchSetting <<<"$(sed -n 2p <<<"$units")" || { echo "$units"; die "a setting that is none was not noticed: does this still look?"; }
  echo "ok   systemd-run of $release takes every setting of the unit"
}

[ "$(id -u)" = 0 ] || die "as root: it makes a root file system and changes into it"
if [ -z "${FAMILIAR_INSIDE:-}" ]; then
  FAMILIAR_INSIDE=1 exec unshare --mount --pid --fork --kill-child --propagation private -- "$0" "$@"
fi
inside
