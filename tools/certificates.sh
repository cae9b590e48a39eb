#!/usr/bin/env bash
# Certificates for a broker in one's own network, by OpenSSL: a CA, and what it signs. `make certificates HOST=…`
#
#   tools/certificates.sh server NAME[,NAME…]   a server's, for these names and IP addresses: mosquitto.pem, mosquitto.key
#   tools/certificates.sh client NAME           a client's, for require_certificate: NAME.pem, NAME.key
#
# in the folder $CERTIFICATES (certificates). The CA (ca.pem, ca.key) is made once, and signs all that follow. Nothing that is
# there is overwritten: to make a certificate anew, move the old one away. Keys are for their owner alone (mode 0600).
set -euo pipefail

folder="${CERTIFICATES:-certificates}"
# A CA outlives what it signs; a server's certificate is renewed every two years or so (some clients refuse more than 825 days).
ca_days=3650
days=825

fail() { echo "certificates: $*" >&2; exit 2; }

command -v openssl >/dev/null || fail "openssl is not installed (apt install openssl)"
kind="${1:-}" names="${2:-}"
if [[ "$kind" == server && -z "$names" ]]; then
  fail "say how the device will call the broker: make certificates HOST=homeassistant.local,192.168.1.10"
fi
[[ "$kind" == server || "$kind" == client ]] || fail "server NAME[,NAME…] or client NAME"

alternative=()
IFS=', ' read -r -a each <<<"$names"
for name in "${each[@]}"; do
  if [[ "$name" =~ ^[0-9]+(\.[0-9]+){3}$ || "$name" =~ ^[0-9a-fA-F:]*:[0-9a-fA-F:]*$ ]]; then
    alternative+=("IP:$name")
  elif [[ "$name" =~ ^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?$ ]]; then
    alternative+=("DNS:$name")
  else
    fail "\"$name\" is neither a host's name nor an IP address (no scheme, no port)"
  fi
done
(( ${#alternative[@]} > 0 )) || fail "no name"
[[ "$kind" == server || ${#alternative[@]} == 1 ]] || fail "one client at a time"

if [[ "$kind" == server ]]; then file=mosquitto usage=serverAuth; else file="${each[0]}" usage=clientAuth; fi
case "$file" in ca) fail "\"ca\" is the name of the CA's own files" ;; esac
for made in "$folder/$file.pem" "$folder/$file.key"; do
  [[ ! -e "$made" ]] || fail "$made is there, and is not overwritten: move it away first"
done
if [[ -e "$folder/ca.pem" && ! -e "$folder/ca.key" ]] || [[ ! -e "$folder/ca.pem" && -e "$folder/ca.key" ]]; then
  fail "of $folder/ca.pem and $folder/ca.key one is missing: bring it back, or move the other away for a new CA"
fi

umask 077
mkdir -p "$folder"
work="$(mktemp -d "$folder/.making.XXXXXX")"
trap 'rm -rf "$work"' EXIT
# Says nothing unless it fails.
run() { openssl "$@" 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; }

key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [[ ! -e "$folder/ca.pem" ]]; then
  run req -x509 "${key[@]}" -sha256 -days "$ca_days" -subj "/CN=familiar CA $(date +%F)" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$work/ca.key" -out "$work/ca.pem"
  chmod 0644 "$work/ca.pem"
  mv -n "$work/ca.key" "$work/ca.pem" "$folder/"
fi
joined="$(IFS=,; echo "${alternative[*]}")"
run req "${key[@]}" -sha256 -subj "/CN=${each[0]:0:64}" -keyout "$work/$file.key" -out "$work/request"
printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature "extendedKeyUsage=$usage" \
  "subjectAltName=$joined" subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >"$work/extensions"
run x509 -req -sha256 -in "$work/request" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
  -days "$days" -extfile "$work/extensions" -out "$work/$file.pem"
chmod 0644 "$work/$file.pem"
mv -n "$work/$file.key" "$work/$file.pem" "$folder/"

ends="$(openssl x509 -in "$folder/$file.pem" -noout -enddate)"
cat <<TEXT
$folder/$file.pem, $folder/$file.key   for ${joined//,/, }; until ${ends#notAfter=}
$folder/ca.pem   the CA's certificate: for every client, as \`ca\`
$folder/ca.key   signs all further ones: keep it off the broker and the device, and let nobody have it
TEXT
