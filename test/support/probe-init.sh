#!/bin/busybox sh
# shellcheck shell=dash
# /init of an initramfs that only tells what arrived in it, on the serial line, and switches off.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
modules=/lib/modules/$(uname -r)
echo "PROBE cmdline $(cat /proc/cmdline)"
modprobe nbd && [ -e /dev/nbd0 ] && echo "PROBE nbd works"
for alias in /sys/bus/*/devices/*/modalias; do modprobe -q "$(cat "$alias")"; done
for alias in /sys/bus/virtio/devices/*/modalias; do modprobe -q "$(cat "$alias")"; done
for card in /sys/class/net/e*; do echo "PROBE card ${card##*/}"; done
for type in ext4 xfs btrfs; do modprobe $type && echo "PROBE mounts $type"; done
cd "$modules/kernel/drivers/net/ethernet" 2>/dev/null && echo "PROBE vendors" *
echo "PROBE end"
poweroff -f
