#!/usr/bin/env bash
# A newcomer's first steps in a bare Debian: clones the commit that is checked out here, and makes TARGETs there, one after the other.
#
#   tools/bare_debian.sh RELEASE TARGET…      as root; RELEASE is bookworm or trixie, TARGET one of the Makefile's
#
#   RUN_AS=user     as a plain user with sudo, in place of root
#   FRESH=1         forget what an earlier run downloaded and built for this release
#   MODEL_CACHE=…   a folder with weights that no package registry carries, as for `make models`
#
# The root file system is new each time: Debian's smallest variant with git, make, Python 3 and CA certificates. Rust is this machine's own
# toolchain, read-only. What is kept between runs (clone, target folder, downloads) lies in TARGET/debian/RELEASE. Nothing is booted, no
# service is started; all mounts and processes are in namespaces that end with the run.
#
# From this machine come: proxies and registries (environment variables), apt's settings on how to fetch, certificates in
# /usr/local/share/ca-certificates. They are written into the temporary root only.
# Holds PKG-11.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$top/tools/debian_root.sh"

release=${1:?RELEASE: bookworm or trixie}
shift
[ $# != 0 ] || die "which targets? for instance: make test-debian RELEASE=$release TARGETS=\"demo test deb\""
[ "$(id -u)" = 0 ] || die "as root: it makes a root file system and changes into it"
as=${RUN_AS:-root}
case $as in root | user) ;; *) die "RUN_AS is root or user, not $as" ;; esac

work=$target/debian/$release
[ -z "${FRESH:-}" ] || rm -rf "$work"
mkdir -p "$work"/{home,apt/partial}
base=$(debian_base "$release" stranger ca-certificates git make python3 sudo)

# The commit as a clone has it. A bundle, since git refuses to read a repository that belongs to somebody else.
[ -z "$(git -c safe.directory='*' -C "$top" status --porcelain 2>/dev/null)" ] || say "Uncommitted changes are not tested: only commits are cloned"
git -c safe.directory='*' -C "$top" bundle create -q "$work/home/commit.bundle" HEAD
commit=$(git -c safe.directory='*' -C "$top" rev-parse HEAD)

toolchain=$(cd "$top" && rustc --print sysroot)
root=$work/root

# What runs inside of the namespaces: sets up the root, then changes into it.
inside() {
  rm -rf --one-file-system "$root"
  mkdir "$root"
  mount -t tmpfs -o mode=755 tmpfs "$root" # gone with the namespace, whatever happens
  tar -xf "$base" -C "$root"
  mount_system "$root"
  bind "$work/home" "$root/home/stranger"
  bind "$work/apt" "$root/var/cache/apt/archives"
  bind_read_only "$toolchain" "$root/opt/rust"
  local settings=(HOME=/home/stranger USER="$as" LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
  if [ -n "${MODEL_CACHE:-}" ]; then
    bind_read_only "$MODEL_CACHE" "$root/opt/model-cache"
    settings+=(MODEL_CACHE=/opt/model-cache)
  fi
  machine_settings "$root"
  local line
  while read -r line; do settings+=("$line"); done < <(machine_environment)

  # Kept on `sudo`, as whoever sits behind a proxy has it.
  printf 'Defaults env_keep += "http_proxy https_proxy no_proxy DEBIAN_FRONTEND"\nstranger ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/stranger"
  chroot "$root" useradd --home-dir /home/stranger --no-create-home --shell /bin/bash stranger
  local owner=root user=()
  if [ "$as" = user ]; then
    owner=stranger
    user=(--userspec=stranger:stranger --groups=stranger)
  fi
  find "$work/home" ! -user "$(chroot "$root" id -u $owner)" -exec chown -h "$(chroot "$root" id -u $owner):$(chroot "$root" id -g $owner)" {} +

  enter() { chroot "${user[@]}" "$root" /usr/bin/env -i "${settings[@]}" "$@"; }
  # shellcheck disable=SC2016 # the shell inside expands it
  enter bash -euc '
    cd
    [ -d familiar ] || git clone -q commit.bundle familiar
    cd familiar
    git fetch -q ../commit.bundle HEAD
    git reset -q --hard "$1"' clone "$commit"
  local wanted failed=() began
  for wanted in "$@"; do
    say "make $wanted, in $release, as $as"
    began=$SECONDS
    # What needs more than a word is quoted: TARGETS="'test FILTER=x' deb".
    # shellcheck disable=SC2086
    if enter make -C /home/stranger/familiar $wanted </dev/null; then
      say "make $wanted: passed after $((SECONDS - began)) s"
    else
      failed+=("$wanted")
      say "make $wanted: FAILED after $((SECONDS - began)) s"
    fi
  done
  [ ${#failed[@]} = 0 ] || die "in $release, as $as, failed: ${failed[*]}"
  say "in $release, as $as, passed: $*"
}

if [ -z "${FAMILIAR_INSIDE:-}" ]; then
  # With the first process of its namespace all others end.
  FRESH='' FAMILIAR_INSIDE=1 exec unshare --mount --pid --fork --kill-child --propagation private -- "$0" "$release" "$@"
fi
inside "$@"
