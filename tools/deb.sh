#!/usr/bin/env bash
# Builds the Debian package:
#
#   tools/deb.sh [ARCH [VERSION]]     amd64 or arm64 [this machine's]; VERSION [Cargo.toml's]
#
# It lies in TARGET/deb/familiar_VERSION_ARCH.deb afterwards, TARGET being cargo's target folder. Needs the signed bundle (make models).
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
host=$(dpkg --print-architecture)
arch=${1:-$host}
version=${2:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
[ -e models/facenet/model.sig ] || die "there is no signed bundle, models/facenet: make models"

program() { # what goes into the package; `runs` is what runs here, for manual pages and completions
  case $arch in
    "$host")
      PATH=$target/auditable/bin:$PATH cargo auditable build --release --locked
      mkdir -p "$target/deb"
      strip -o "$target/deb/familiar-$arch" "$target/release/familiar"
      runs=$target/deb/familiar-$arch program=$runs
      ;;
    arm64)
      tools/arm.sh
      runs=$target/arm/emulated program=$target/arm/familiar
      ;;
    *) die "no package for $arch is built on $host" ;;
  esac
}
program

# The C library that the program asks for: of a Debian 13 it may be later than what Debian 12 has. 2.35 is what is promised at best.
glibc=$({ echo 2.35; readelf -VW "$program" | grep -o 'GLIBC_2[.0-9]*' | cut -d _ -f 2; } | sort -uV | tail -n 1)

say "Package $version for $arch, for systems with glibc $glibc or later"
tools/bundle.sh "$FAMILIAR_TEST_BUNDLE" >&2
work=$target/deb/work-$arch
rm -rf "$work"
mkdir -p "$work/stage"/{man,completions,models,trust.d,doc}
cp -r packaging/debian "$work/debian"
cd "$work"
install -m755 "$program" stage/familiar
cp "$top/packaging/familiar.toml" stage/
cp "$FAMILIAR_TEST_TRUST"/*.pub stage/trust.d/
cp -r "$FAMILIAR_TEST_BUNDLE" stage/models/facenet
"$runs" man --directory stage/man
"$runs" completions bash >stage/completions/familiar
"$runs" completions zsh >stage/completions/_familiar
"$runs" completions fish >stage/completions/familiar.fish
cp "$top"/{README.md,CHANGELOG.md,SPECIFICATION.md,SECURITY.md,RESPONSIBLE_USE.md,NOTICE} "$top"/docs/*.md stage/doc/
cp -r "$top/schemas" "$top/docs/decisions" stage/doc/
cp "$top/systemd/chrony.conf" "$top/systemd/public-broker.conf" stage/doc/
install -m755 "$top/systemd/camera-came" "$top/packaging/fleet/familiar-model" stage/
mkdir -p stage/fleet
cp "$top"/packaging/fleet/{mender-module,rauc-handler,swupdate-script,sw-description} stage/fleet/
install -m644 "$top/systemd/familiar-camera@.service" "$top/systemd/familiar-ip-camera@.service" stage/
# debhelper knows them by these names, and puts each where it belongs.
for file in "$top"/systemd/*; do
  case $(basename "$file") in
    familiar-camera@.service | familiar-ip-camera@.service) ;; # of no package's name: by familiar.install
    *.service | *.socket | *.timer | *.path | *.target) cp "$file" "debian/" ;;
    familiar.sysusers | familiar.tmpfiles) cp "$file" debian/ ;;
    *.rules) cp "$file" debian/familiar.udev ;;
  esac
done
# Of the commit's date: the same sources give the same package.
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-the authors of familiar} <${DEBEMAIL:-familiar@localhost}>"
sed -i "s/MAINTAINER/$maintainer/; s/GLIBC/$glibc/" debian/control
printf 'familiar (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' \
  "$version" "$maintainer" "$(date -uRd "@$SOURCE_DATE_EPOCH")" >debian/changelog
DEB_RULES_REQUIRES_ROOT=no DEB_BUILD_OPTIONS=nocheck dpkg-architecture --host-arch "$arch" -f -c debian/rules binary >build.log 2>&1 ||
  { tail -n 30 build.log >&2; die "debhelper failed; see $work/build.log"; }
echo "$target/deb/familiar_${version}_$arch.deb"
