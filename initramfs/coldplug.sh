#!/bin/busybox sh
# shellcheck shell=dash
# Loads the drivers of all devices there are. Twice: behind a bus that its driver has just brought up
# there are more (virtio, USB).
for _ in 1 2; do
    find /sys/devices -name modalias -exec cat {} + 2>/dev/null | sort -u | xargs modprobe -qab 2>/dev/null
done
# Disks show up later than their controllers, one after the other: these wait for them.
modprobe -qa sd_mod mmc_block usb_storage uas 2>/dev/null
