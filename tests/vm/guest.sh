#!/bin/bash
# What is looked at within the machine, from its first boot on; one line each, `ok NAME` or `FAIL NAME`, on its second serial line.
# The host reads them (tests/vm/run.sh). Nobody logs in, nobody touches it.
exec >/dev/ttyS1 2>&1

check() { # NAME TEST…
  local name=$1
  shift
  if "$@"; then echo "ok $name"; else echo "FAIL $name"; fi
}
# Waits for what comes by itself. Everything is slow here: the processor is emulated.
await() { # SECONDS TEST…
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || return 1
    sleep 1
  done
}
is() { [ "$(systemctl show -P "$1" familiar)" = "$2" ]; }
retained() { timeout 10 mosquitto_sub -C 1 -t "familiar/vm/$1" 2>/dev/null; }
health_says() { retained health | grep -qF "$1"; }
heard() { grep -q "$1" /root/heard; }
as_familiar() { runuser -u familiar -- "$@"; }

# A consumer, who knows no more than the broker tells.
(while :; do STATE_DIRECTORY=/root/listener familiar listen --config /root/listener.toml; sleep 1; done) >/root/heard 2>&1 &

echo "== Power-on to the first signed message"
check ready_by_itself await 240 is ActiveState active
check health_arrives await 60 health_says '\"state\":\"watching\"'
check frames_through_v4l2 health_says vivid
journalctl -u familiar -o cat | grep -o 'ready after [0-9.]* s' | head -1
systemctl show -P MemoryCurrent familiar | awk '{ printf "memory of the unit %.0f MiB\n", $1 / 1048576 }'
check journal_has_fields eval 'journalctl -u familiar -o json | grep -q "\"CODE_MODULE\"\|\"TARGET\""'
check no_listening_port eval '! ss -Hltup | grep -q familiar'
check user_of_its_own eval '[ "$(ps -o user= -p "$(systemctl show -P MainPID familiar)")" = familiar ]'

echo "== The camera vanishes and returns"
echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
check camera_away_is_said await 60 health_says '\"state\":\"blind\"'
check camera_away_is_survived is ActiveState active
echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
check camera_back_is_opened await 60 health_says '\"state\":\"watching\"'

echo "== A person before the camera"
systemctl stop familiar
as_familiar familiar enroll Ada --id ada /usr/share/vm/ada/*.jpg
# What the output shows, the camera sees: 640x480, looped within the driver.
v4l2-ctl -d /dev/video0 --set-dv-bt-timings index=0 >/dev/null
v4l2-ctl -d /dev/video1 --set-dv-bt-timings index=0 --set-fmt-video-out width=640,height=480,pixelformat=YUYV >/dev/null
v4l2-ctl -d /dev/video0 --set-ctrl loop_video=1 >/dev/null
(while :; do v4l2-ctl -d /dev/video1 --stream-out-mmap --stream-from /usr/share/vm/scene.yuyv --stream-loop; done) >/dev/null 2>&1 &
player=$!
systemctl start familiar
check recognised_through_v4l2 await 240 heard 'recognized Ada (ada)'
check presence_is_retained await 30 eval 'retained person/ada | grep -qF "\"present\":true"'
grep -m1 'recognized Ada' /root/heard

echo "== A wedged process"
restarts=$(systemctl show -P NRestarts familiar)
kill -STOP "$(systemctl show -P MainPID familiar)"
check watchdog_restarts_it await 300 is NRestarts "$((restarts + 1))"
check it_is_back await 240 is SubState running
kill $player

echo "== A model that was altered on the disk"
printf '\x01' | dd of=/usr/share/familiar/models/facenet/embedder.onnx bs=1 seek=1000000 conv=notrunc status=none
systemctl restart familiar
check tampered_model_is_refused await 120 is ExecMainStatus 3
sleep 15
check it_is_not_tried_again is ActiveState failed
check status_says_why eval 'systemctl status familiar --no-pager | grep -q "embedder.onnx"'
check nothing_is_said_but_offline eval '[ "$(retained availability)" = offline ]'

echo "== Denied to the service"
journalctl -b -o cat | grep -i 'audit.*familiar\|Failed.*familiar' | head
journalctl -u familiar -o short-monotonic | tail -n 60
echo "== END"
systemctl poweroff
