# Sourced by tools/bare_debian.sh and packaging/lifecycle.sh: small Debian root file systems to change into. Needs root and mmdebstrap;
# `target`, `say` and `die` come from tools/env.sh.
# shellcheck shell=bash disable=SC2154

# Prints the path of a tar archive with RELEASE's smallest variant and PACKAGEs; made once for each list of packages, and kept under NAME.
debian_base() { # RELEASE NAME PACKAGE…
  local release=$1 name=$2 packages base
  shift 2
  packages=$(printf '%s\n' "$@" | sort)
  base=$target/debian/base-$release-$name-$(sha256sum <<<"$packages" | cut -c 1-12).tar
  command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: tools/setup.sh deb"
  if [ ! -e "$base" ]; then
    say "A bare Debian: $release"
    mkdir -p "$target/debian"
    rm -f "$target/debian/base-$release-$name"*.tar # of another list
    mmdebstrap --quiet --format=tar --variant=minbase --include="$(IFS=,; echo "$*")" "$release" "$base.part" </dev/null >&2
    mv "$base.part" "$base"
  fi
  echo "$base"
}

# The rest is for a process in a mount namespace of its own (unshare --mount): nothing of it is seen outside, or left behind.

bind() { # FROM TO
  mkdir -p "$1" "$2"
  mount --bind "$1" "$2"
}
bind_read_only() { # FROM TO
  mkdir -p "$2"
  mount --bind "$1" "$2"
  mount -o remount,bind,ro "$2"
}

# /proc, /sys, /tmp and a /dev with what every Debian has in it: no camera, no disk.
mount_system() { # ROOT
  local root=$1 node
  mount -t proc proc "$root/proc"
  bind_read_only /sys "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mkdir -p "$root"/dev/{pts,shm}
  for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
  done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s /proc/self/fd/0 "$root/dev/stdin"
  ln -s /proc/self/fd/1 "$root/dev/stdout"
  ln -s /proc/self/fd/2 "$root/dev/stderr"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
}

# How this machine reaches its registries: name servers, apt's settings on fetching, certificates of its owner's.
machine_settings() { # ROOT
  local root=$1
  cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
  cp /etc/hosts "$root/etc/hosts"
  apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries)' >"$root/etc/apt/apt.conf.d/99machine" || true
  if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
  fi
}

# The variables, NAME=VALUE a line, by which registries and proxies are named. Certificates are found where Debian keeps them, by programs
# that bring their own list, too.
machine_environment() {
  env | grep -iE '^(https?_proxy|all_proxy|no_proxy|pip_(index_url|extra_index_url|trusted_host|default_timeout|retries)|npm_config_registry|cargo_(registries|registry|source|http|net)_[a-z_]*)=' |
    grep -viE '_(token|password|cainfo)=' || true
  local all=/etc/ssl/certs/ca-certificates.crt
  printf '%s\n' PIP_CERT=$all NODE_EXTRA_CA_CERTS=$all SSL_CERT_FILE=$all CARGO_HTTP_CAINFO=$all
}
