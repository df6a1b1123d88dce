#!/bin/busybox sh
# shellcheck shell=dash
# Has the system wait with a root that waits: while the server is away, whoever reads from the disk
# stands still, and nobody shall take that for a hang and shoot. By files in /run, so that the vDisk
# stays as it is.
#
# usage: keep-waiting.sh RUN_FOLDER
run=$1

# write PATH LINE...
write() {
    path=$run/$1
    shift
    mkdir -p "${path%/*}"
    printf '%s\n' "$@" >"$path"
}

# systemd kills its own journald, logind, udevd and others when they stay silent for three minutes.
# A drop-in for all services comes behind each unit's own file.
write systemd/system/service.d/bootwire.conf '[Service]' 'WatchdogSec=0'

# PID 1 reads from the disk, too, and a hardware watchdog would reset the machine.
write systemd/system.conf.d/zz-bootwire.conf '[Manager]' 'RuntimeWatchdogSec=0'

# The kernel may tell of tasks that wait long; it shall not panic.
write sysctl.d/zz-bootwire.conf 'kernel.hung_task_panic = 0'
