#!/usr/bin/env bash
# What the virtual machine boots, without familiar: Debian 12 for arm64 with its own kernel. Everything is kept below TARGET/vm and made
# once; minutes, for the packages' scripts run in an emulator. Needs root.
#
#   tests/vm/root.sh
#
# Leaves base.tar, vmlinuz, initrd, modules/ (lib/modules/VERSION, as much as is used) and player there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../tools/env.sh"
. "$here/../../tools/apt.sh"
work=$target/vm
mkdir -p "$work"
cd "$work"

packages=systemd,systemd-sysv,udev,kmod,procps,iproute2,mosquitto-clients,v4l-utils
# The test loads what it needs by name; beyond that the machine finds virtio's devices by itself.
boot_modules=(virtio_pci virtio_mmio virtio_blk ext4)
modules=("${boot_modules[@]}" virtio_net virtio_console vivid)

# Runs `BUILD` to make FILE, unless it was made from the same WORDS.
fresh() { # FILE WORDS BUILD…
  local file=$1 words=$2
  shift 2
  [ -e "$file" ] && [ "$(cat "$file.made-from" 2>/dev/null)" = "$words" ] && return
  say "Making $file"
  local begun=$SECONDS
  "$@"
  printf '%s\n' "$words" >"$file.made-from"
  echo "$file $((SECONDS - begun)) s" >>timings
}

# The packages' scripts are programs for ARM: the kernel is told who runs them (as qemu-user-static's own file says, but no service of
# this machine is asked to). Nothing here starts a service; /run is the chroot's own.
runs_arm() {
  arch-test arm64 >/dev/null 2>&1 && return
  mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
  arch-test arm64 >/dev/null || die "programs for ARM do not run here: is qemu-user-static installed?"
}
base() {
  runs_arm
  mmdebstrap --quiet --mode=root --architectures=arm64 --variant=minbase --include="$packages" --format=tar \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io bookworm base.tar.part </dev/null
  mv base.tar.part base.tar
}

unpack() { # FOLDER PACKAGE…, for this machine where it says :amd64
  local folder=$1
  shift
  rm -rf "$folder"
  mkdir -p "$folder/.deb"
  (cd "$folder/.deb" && apt-get "${apt_own[@]}" download "$@")
  local package
  for package in "$folder"/.deb/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$folder/.deb"
}

kernel() {
  apt_of_its_own "$work/.apt" "${arm_packages[@]}"
  local image version path
  image=$(apt-cache "${apt_own[@]}" depends linux-image-arm64 | sed -n 's/^ *Depends: \(linux-image-[^:]*\).*/\1/p' | head -1)
  version=${image#linux-image-}
  unpack kernel "$image" busybox-static
  # The headers' own programs are run by make, so they are this machine's.
  unpack headers "linux-headers-$version" "linux-headers-${version%-arm64}-common" v4l2loopback-dkms
  (cd headers && apt-get -qq download "linux-kbuild-$(cut -d. -f1,2 <<<"$version")" && dpkg-deb -x linux-kbuild-*.deb . && rm ./*.deb)
  loopback "$version"
  depmod -b kernel "$version"

  rm -rf modules
  for module in "${modules[@]}" v4l2loopback; do needed "$version" "$module"; done | sort -u >modules.list
  while read -r path; do install -Dm644 "kernel/$path" "modules/$path"; done <modules.list
  cp kernel/lib/modules/"$version"/modules.{order,builtin,builtin.modinfo} "modules/lib/modules/$version/"
  depmod -b modules "$version"
  initramfs "$version"
  cp "kernel/boot/vmlinuz-$version" vmlinuz
  echo "$version" >version
  rm -rf kernel headers
}
needed() { # VERSION MODULE: files below kernel/, in the order in which they are loaded
  modprobe -d "$work/kernel" -S "$1" --show-depends "$2" | sed -n "s|^insmod $work/kernel/\(.*\.ko\).*|\1|p"
}

# A camera that shows what is written to it, in any format; Debian has its source, and the machine no compiler.
loopback() { # VERSION
  local headers=$work/headers/usr/src/linux-headers-$1
  sed -i "s|/usr/src|$work/headers/usr/src|" "$headers/Makefile"
  rm -rf loopback
  cp -r headers/usr/src/v4l2loopback-* loopback
  make -s -C "$headers" M="$work/loopback" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- modules
  aarch64-linux-gnu-strip --strip-debug loopback/v4l2loopback.ko
  install -Dm644 loopback/v4l2loopback.ko "kernel/lib/modules/$1/updates/v4l2loopback.ko"
  rm -rf loopback
}

# As small as can be: the disk's driver and its file system, then the real root.
initramfs() { # VERSION
  local tree=initramfs module path
  rm -rf $tree
  mkdir -p $tree/{bin,dev,proc,root,modules}
  install -m755 kernel/usr/bin/busybox kernel/bin/busybox $tree/bin/ 2>/dev/null || true
  {
    echo '#!/bin/busybox sh'
    echo '/bin/busybox mount -t devtmpfs dev /dev'
    for module in "${boot_modules[@]}"; do
      while read -r path; do
        cp "kernel/$path" $tree/modules/
        echo "/bin/busybox insmod /modules/$(basename "$path")"
      done < <(needed "$1" "$module")
    done
    echo '/bin/busybox mount -t ext4 -o rw /dev/vda /root'
    echo '/bin/busybox mount -o move /dev /root/dev'
    echo 'exec /bin/busybox switch_root /root /sbin/init'
  } >$tree/init
  chmod 755 $tree/init
  (cd $tree && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0) >initrd
  rm -rf $tree
}

player() { aarch64-linux-gnu-gcc -O2 -Wall -Wextra -Werror -static -o player "$here/player.c"; }

fresh base.tar "$packages" base
fresh vmlinuz "${modules[*]} $(sha256sum <"$0")" kernel
fresh player "$(sha256sum <"$here/player.c")" player
