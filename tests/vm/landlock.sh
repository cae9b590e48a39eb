#!/usr/bin/env bash
# The tests of the daemon's own sandbox under a kernel that has Landlock, which this machine's may not: Debian's, in an emulated machine
# with nothing in it but the test program. A minute. Twice: with ports (Linux 6.12, of bookworm-backports) and without (6.1, bookworm).
#
#   tests/vm/landlock.sh TESTS      the program that `cargo test --lib --no-run` builds
set -euo pipefail
. "$(dirname "$0")/../../tools/env.sh"
. "$(dirname "$0")/../../tools/apt.sh"
tests=$1
work=$target/landlock
mkdir -p "$work"
cd "$work"

# FILE is the newest kernel of SUITE.
kernel() { # FILE SUITE
  [ -e "$1" ] && return
  say "Debian's kernel, $2"
  local apt=$work/.apt package mirror
  rm -rf "$apt"
  mkdir -p "$apt"
  mirror=$(apt-cache policy | sed -n 's|.*[0-9] \(http[^ ]*/debian\) bookworm/main.*|\1|p' | head -1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no Debian mirror is known to apt} $2 main" >"$apt/sources"
  apt_of_its_own "$apt" -o Dir::Etc::SourceList="$apt/sources" -o Dir::Etc::SourceParts=/dev/null
  package=$(apt-cache "${apt_own[@]}" depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^:]*\).*/\1/p' | head -1)
  (cd "$apt" && apt-get "${apt_own[@]}" download "$package" && dpkg-deb -x ./*.deb .)
  mv "$apt"/boot/vmlinuz-* "$1"
  rm -rf "$apt"
}

# The test program with the libraries that it names, and a first process that runs it and switches off.
root() {
  rm -rf root
  mkdir -p root/{bin,dev,proc,sys,tmp,etc}
  cp "$(command -v busybox)" root/bin/busybox
  ln -s busybox root/bin/sh
  ln -s busybox root/bin/true
  cp "$tests" root/tests
  strip root/tests
  ldd "$tests" | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "root$library"; done
  cat >root/init <<'EOF'
#!/bin/sh
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
busybox mount -t sysfs sys /sys
busybox ip link set lo up
case $landlock in files) skip="--skip no_port_but_the_configured" ;; esac
/tests landlock --include-ignored --nocapture $skip
echo "ended with $?"
busybox poweroff -f
EOF
  chmod 755 root/init
  (cd root && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0) >initrd
  rm -rf root
}

under() { # KERNEL, and files|ports, which the kernel hands to the first process as a variable
  say "Under $1"
  timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 1024 -nographic -no-reboot -nic none \
    -kernel "$1" -initrd initrd -append "console=ttyS0 quiet panic=-1 landlock=$2" </dev/null | tee said | grep -aE "Linux version|^test |ended with|panicked|^no " || true
  grep -aq "ended with 0" said || { tail -n 30 said; die "the sandbox does not hold under $1"; }
}

# Holds STA-29.
kernel vmlinuz-backports bookworm-backports
kernel vmlinuz-stable bookworm
root
under vmlinuz-backports ports
under vmlinuz-stable files
