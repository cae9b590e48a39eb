#!/usr/bin/env bash
# The life of the package in a small Debian of its own, where nothing is booted: installed, used, upgraded, removed, installed again, purged.
#
#   packaging/lifecycle.sh OLD.deb NEW.deb PICTURE [RELEASE]     as root; PICTURE of somebody to enrol
#
# NEW differs from OLD in its version. RELEASE is Debian's: bookworm (12), the default, or trixie (13).
#
# What `holds` evaluates is expanded there, and formats of dpkg are not the shell's.
# shellcheck disable=SC2016
set -euo pipefail
. "$(dirname "$0")/../tools/env.sh"
. "$top/tools/debian_root.sh"
[ "$(id -u)" = 0 ] || die "as root: it makes a root file system and changes into it"
old=$1 new=$2 picture=$3 release=${4:-bookworm}
root=$target/deb/lifecycle-$release
say "The package in Debian, $release"

# No systemd in it: what its snippets call is there where something calls it without asking first.
base=$(debian_base "$release" package systemd-standalone-sysusers libgcc-s1)
trap 'rm -rf "$root"' EXIT
rm -rf "$root"
mkdir "$root"
tar -xf "$base" -C "$root"
cp "$old" "$root/old.deb"
cp "$new" "$root/new.deb"
cp "$picture" "$root/ada.jpg"

failed=0 passed=0
holds() { # NAME TEST…
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)) && echo "ok   $name"; else failed=$((failed + 1)) && echo "FAIL $name"; fi
}
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
familiar() { # as its user, as the documents say
  chroot --userspec=familiar:familiar "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/nonexistent familiar "$@"
}
there() { [ -e "$root/$1" ]; }
absent() { [ ! -e "$root/$1" ] && [ ! -L "$root/$1" ]; }
is() { [ "$(stat -c "$2" "$root/$1")" = "$3" ]; }
enabled=etc/systemd/system/multi-user.target.wants/familiar.service
knows_ada() { [ "$(familiar people --json | grep -c '"ada"')" -ge 1 ]; }
version() { inside dpkg-query -Wf '${Version}' familiar; }

say "Installed"
# Holds PKG-06.
holds installs eval 'inside dpkg -i /old.deb >"$root/said"'
holds says_how_to_set_it_up grep -q "sudo familiar setup" "$root/said"
holds user_in_group_video eval 'inside id -nG familiar | grep -qw video'
holds state_is_for_its_user_alone is var/lib/familiar %a 700
holds state_belongs_to_familiar eval '[ "$(inside stat -c %U:%G /var/lib/familiar)" = familiar:familiar ]'
# Holds PKG-06.
holds not_enabled absent "$enabled"
holds unit_is_there eval 'there lib/systemd/system/familiar.service || there usr/lib/systemd/system/familiar.service'
for file in usr/bin/familiar usr/share/man/man1/familiar.1.gz usr/share/man/man1/familiar-enroll.1.gz \
  usr/share/bash-completion/completions/familiar usr/share/zsh/vendor-completions/_familiar \
  usr/share/fish/vendor_completions.d/familiar.fish etc/familiar/familiar.toml usr/share/familiar/models/facenet/model.sig \
  usr/libexec/familiar/camera-came usr/libexec/familiar/familiar-model usr/share/familiar/fleet/mender-module lib/systemd/system/familiar-camera@.service lib/systemd/system/familiar-ip-camera@.service usr/lib/tmpfiles.d/familiar.conf lib/udev/rules.d/70-familiar.rules; do
  holds "has $file" there "$file"
done
holds configuration_is_kept_by_dpkg eval 'inside dpkg-query -Wf "\${Conffiles}" familiar | grep -q familiar.toml'
holds anchors_are_kept_by_dpkg eval 'inside dpkg-query -Wf "\${Conffiles}" familiar | grep -q trust.d/'
holds only_root_changes_what_it_runs is usr/bin/familiar '%U %a' 'root 755'
holds model_is_verified familiar model verify /usr/share/familiar/models/facenet
said=$(familiar check 2>/dev/null || true) # there is no camera
for part in configuration models; do holds "check says $part is sound" grep -q "^ok  *$part " <<<"$said"; done

say "Set up and used"
# No broker answers there: what is asked is written, and `check` says what does not work yet.
port=1
# shellcheck disable=SC2120 # with an option in what `holds` evaluates
setup() { inside familiar setup --device porch --broker "mqtt://127.0.0.1:$port" --username porch --password-file - "$@" <<<"secret word"; }
# shellcheck disable=SC2119 # no option here
setup >"$root/said" 2>&1 || true
# Holds PKG-07.
holds set_up_by_options grep -q '^device = "porch"' "$root/etc/familiar/familiar.toml"
holds configuration_before_is_kept grep -q '^device = "familiar"' "$root/etc/familiar/familiar.toml.bak"
holds configuration_is_read_by_the_daemon eval 'familiar people --json | grep -q "\[\]"'
holds password_is_for_root_alone is etc/familiar/mqtt-password '%U %a' 'root 600'
drop_in=etc/systemd/system/familiar.service.d/mqtt-password.conf
holds unit_gets_the_password grep -qx 'LoadCredential=mqtt-password:/etc/familiar/mqtt-password' "$root/$drop_in"
holds check_looks_with_the_password grep -q 'unit .*read the credential mqtt-password as root' "$root/said"
holds check_names_the_broker grep -q '^fail *broker .*127.0.0.1' "$root/said"
holds says_what_is_left grep -q 'sudo systemctl enable --now familiar' "$root/said"
holds set_up_twice_is_refused eval '! setup --no-check >"$root/said" 2>&1 && grep -q -- --replace "$root/said"'
holds nothing_was_changed_by_it absent etc/familiar/familiar.toml.bak.2
said=$(familiar check 2>/dev/null || true)
holds user_without_the_password_is_shown_the_way grep -q '^warn *unit .*sudo familiar check' <<<"$said"
holds broker_is_not_blamed_for_it grep -q '^warn *broker *not asked' <<<"$said"
holds no_credential_is_left_behind eval '[ -z "$(find "$root/run" "$root/dev" "$root/tmp" -name "familiar-check-*")" ]'
holds enrols familiar enroll Ada --id ada /ada.jpg
holds identifies eval 'familiar identify --json /ada.jpg | tr -d " \n" | grep -q "\"id\":\"ada\""'
# As `systemctl enable` does.
mkdir -p "$root/$(dirname "$enabled")"
ln -s /lib/systemd/system/familiar.service "$root/$enabled"
holds is_enabled eval '[ -L "$root/$enabled" ]'

say "Upgraded"
before=$(version)
holds upgrades inside dpkg -i /new.deb
holds version_is_another [ "$(version)" != "$before" ]
# Holds PKG-08.
holds configuration_survives grep -q '^device = "porch"' "$root/etc/familiar/familiar.toml"
holds password_survives there etc/familiar/mqtt-password
holds gallery_survives knows_ada
holds still_enabled eval '[ -L "$root/$enabled" ]'

say "Removed, and installed again"
holds removes inside dpkg -r familiar
holds program_is_gone absent usr/bin/familiar
holds models_are_gone absent usr/share/familiar
# Holds PKG-09.
holds configuration_stays there etc/familiar/familiar.toml
holds gallery_stays there var/lib/familiar/gallery.db
holds installs_again inside dpkg -i /new.deb
holds gallery_is_read_again knows_ada
holds configuration_is_as_it_was grep -q '^device = "porch"' "$root/etc/familiar/familiar.toml"

say "Purged"
holds purges inside dpkg -P familiar
holds nothing_of_people_stays absent var/lib/familiar
holds nothing_of_the_configuration_stays absent etc/familiar
holds no_drop_in_stays absent etc/systemd/system/familiar.service.d
holds no_enablement_stays absent "$enabled"
holds dpkg_knows_nothing eval '! inside dpkg-query -W familiar >/dev/null 2>&1'
left=$(cd "$root" && find . -xdev -iname '*familiar*' ! -path './proc/*' ! -path './var/lib/dpkg/*' ! -path './var/log/*' | sort)
# Holds PKG-10.
holds nothing_is_left eval '[ -z "$left" ]'
[ -z "$left" ] || echo "$left"

printf '%s, %s: %s passed, %s failed\n' "$(basename "$old")" "$release" $passed $failed
[ $failed = 0 ]
