#!/usr/bin/env bash
# Builds familiar for 64-bit ARM (Raspberry Pi 3, 4, 5, Zero 2 W with a 64-bit system; Jetson) on another machine:
#
#   tools/arm.sh        the stripped program lies in TARGET/arm/familiar afterwards
#
# TARGET is cargo's target folder. TARGET/arm/emulated runs the program here, by qemu, with the C library of Debian's ARM
# packages; QEMU_CPU=cortex-a72 or cortex-a76 chooses the processor. On an ARM machine it is a plain build.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"

rust=$(arm_rust) || die "there is no Rust here that builds for $arm_triple: tools/setup.sh arm"
export PATH=$target/auditable/bin:$PATH
if [ -n "$rust" ]; then
  export RUSTC=${rust}rustc
fi
strip="strip"
if [ "$(uname -m)" != aarch64 ]; then
  strip=aarch64-linux-gnu-strip
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
  # bindgen (of the crate v4l) reads the kernel's headers as they are for ARM.
  export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="--target=aarch64-linux-gnu --sysroot=/usr/aarch64-linux-gnu -I/usr/aarch64-linux-gnu/include"
fi
# auditable: the list of what it was built from lies in the program.
"${rust}cargo" auditable build --release --locked --target "$arm_triple"

mkdir -p "$target/arm"
"$strip" -o "$target/arm/familiar.part" "$target/$arm_triple/release/familiar"
mv "$target/arm/familiar.part" "$target/arm/familiar"

cat >"$target/arm/emulated.part" <<SH
#!/bin/sh
# Made by tools/arm.sh.
$(if [ "$(uname -m)" = aarch64 ]; then
  echo "exec '$target/arm/familiar' \"\$@\""
else
  echo "exec qemu-aarch64-static -L '$target/arm/root' '$target/arm/familiar' \"\$@\""
fi)
SH
chmod 755 "$target/arm/emulated.part"
mv "$target/arm/emulated.part" "$target/arm/emulated"
say "$(du --apparent-size -m "$target/arm/familiar" | cut -f1) MB for ARM: $target/arm/familiar"
