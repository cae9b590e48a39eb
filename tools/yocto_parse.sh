#!/usr/bin/env bash
# Has bitbake read yocto/meta-familiar beside the real layers, and resolve familiar-image for the machine of each kas file:
#
#   tools/yocto_parse.sh LAYERS
#
# LAYERS is a folder with bitbake, openembedded-core, meta-openembedded, meta-raspberrypi and meta-tegra, at the branches that
# yocto/kas names. Nothing is fetched and nothing built. bitbake refuses to be root: where this is, `nobody` runs it.
set -euo pipefail
. "$(dirname "$0")/env.sh"

layers=$(cd "${1:-}" 2>/dev/null && pwd) || die "YOCTO_LAYERS=FOLDER names no folder; see tools/yocto_parse.sh"
for layer in bitbake openembedded-core meta-openembedded meta-raspberrypi meta-tegra; do
  [ -d "$layers/$layer" ] || die "$layers has no $layer"
done
locale -a | grep -qi '^en_US.utf-\?8$' || die "bitbake needs the locale en_US.UTF-8 (Debian: package locales, /etc/locale.gen, locale-gen)"
for tool in chrpath diffstat gawk lz4c zstd cpio wget file; do
  command -v $tool >/dev/null || die "bitbake needs $tool (Debian: chrpath diffstat gawk lz4 zstd cpio wget file)"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What git would commit, and neither target/ nor a key.
mkdir -p "$work/familiar" "$work/bundle" "$work/trust" "$work/home"
(cd "$top" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cT - 2>/dev/null) | tar -xC "$work/familiar"
# Stands for a signed bundle: the recipe asks only whether there is one.
touch "$work/bundle/model.sig" "$work/trust/test.pub"

# Its errors and warnings; what the layer has reasons for is marked `nooelint`, with the reason.
say "oelint"
if command -v oelint-adv >/dev/null; then
  (cd "$work/familiar/yocto/meta-familiar" &&
    find . -name '*.bb' -o -name '*.inc' -o -name '*.conf' | sort |
    xargs oelint-adv --quiet --exit-zero --jobs=1 --release=wrynose --hide=info) 2>&1 | tee "$work/oelint"
  [ ! -s "$work/oelint" ] || die "oelint-adv minds the above"
else
  [ -z "${CI:-}" ] || die "oelint-adv is not there"
  echo "SKIPPED: oelint-adv is not there" >&2
fi

run=(env -i "PATH=$PATH" "HOME=$work/home" LANG=en_US.UTF-8 LC_ALL=en_US.UTF-8)
if [ "$(id -u)" = 0 ]; then
  chown -R nobody: "$work"
  chmod 755 "$work"
  run=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups "${run[@]}")
fi

# Holds DEV-13.
say "bitbake"
machines=$(sed -n 's/^machine: *//p' "$top"/yocto/kas/*.yml)
core=$layers/openembedded-core
for machine in $machines; do
  build=$work/build-$machine
  mkdir -p "$build/conf"
  case $machine in
    raspberrypi*) board="$layers/meta-raspberrypi" ;;
    jetson*) board="$layers/meta-tegra" ;;
    *) board= ;;
  esac
  cat >"$build/conf/bblayers.conf" <<CONF
LCONF_VERSION = "7"
BBPATH = "\${TOPDIR}"
BBFILES ?= ""
BBLAYERS = "$core/meta $layers/meta-openembedded/meta-oe $layers/meta-openembedded/meta-python $layers/meta-openembedded/meta-networking $board $work/familiar/yocto/meta-familiar"
CONF
  {
    # What kas would write: the lines below local_conf_header.
    cat <<CONF
CONF_VERSION = "2"
MACHINE = "$machine"
DISTRO = "familiar-appliance"
FAMILIAR_BUNDLE = "$work/bundle"
FAMILIAR_TRUST = "$work/trust"
BB_NO_NETWORK = "1"
CONNECTIVITY_CHECK_URIS = ""
CONF
    awk '/^local_conf_header:/ { inside = 1; next } /^[^ ]/ { inside = 0 } inside && /^    / { print substr($0, 5) }' \
      "$(grep -l "^machine: *$machine$" "$top"/yocto/kas/*.yml)"
  } >"$build/conf/local.conf"
  [ "$(id -u)" != 0 ] || chown -R nobody: "$build"
  # Parses every recipe, then everything that the image needs, down to the last task.
  (cd "$build" && "${run[@]}" "BUILDDIR=$build" "PATH=$layers/bitbake/bin:$core/scripts:$PATH" bitbake -g familiar-image) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "bitbake cannot resolve familiar-image for $machine"; }
  ! grep -E '(WARNING|ERROR).*familiar' "$work/log" || die "bitbake minds the layer on $machine"
  for task in familiar.do_compile familiar-bundle.do_install familiar-data.do_install chrony.do_compile familiar-image.do_image_complete; do
    grep -q "^\"$task\" ->" "$build/task-depends.dot" || die "familiar-image for $machine does not need $task"
  done
  grep -E '^(Parsing|NOTE: .*recipes)|recipes' "$work/log" | tail -1
  echo "$machine: familiar-image resolves to $(grep -c '" \[label=' "$build/task-depends.dot") tasks of $(sort -u "$build/pn-buildlist" | wc -l) recipes"
done
