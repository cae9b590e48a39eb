#!/bin/sh
# At each boot, before anything of familiar: what a new data partition lacks.
set -eu
umask 022
mkdir -p /data/config
# Owner and mode are what StateDirectory= of the unit makes of it.
[ -d /data/state ] || mkdir -m 0700 /data/state
if [ ! -e /data/config/familiar.toml ]; then
    cp /usr/share/familiar/familiar.toml /data/config/familiar.toml.new
    sync /data/config/familiar.toml.new
    mv /data/config/familiar.toml.new /data/config/familiar.toml
fi
