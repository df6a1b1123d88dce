#!/bin/busybox sh
# shellcheck shell=dash
# Has the system live with a root that comes over the network: while the server is away, whoever reads
# from the disk stands still, and nobody shall take that for a hang and shoot; and nobody shall take the
# disk for one to mount, assemble or look into. By files in /run, so that the vDisk stays as it is.
#
# usage: keep-root.sh RUN_FOLDER
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

# Tells the agent that the system goes down, before anything else stops: with nothing of the root's own, and
# not for a target that is only isolated. It names what a shutdown consists of, so that systemd has read that
# before there is no server to read it from.
write systemd/system/bootwire-stopping.service '[Unit]' \
    'Description=Tells bootwire that this system goes down' 'DefaultDependencies=no' \
    'Conflicts=shutdown.target' \
    'Before=shutdown.target umount.target final.target poweroff.target reboot.target halt.target' \
    'Before=systemd-poweroff.service systemd-reboot.service systemd-halt.service' \
    'IgnoreOnIsolate=yes' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' \
    'ExecStop=/run/initramfs/bin/busybox touch /run/bootwire/stopping'
mkdir -p "$run/systemd/system/sysinit.target.wants"
ln -s ../bootwire-stopping.service "$run/systemd/system/sysinit.target.wants/"

# What the server says of this client, again whenever that changes: while the file is there, so that what changes
# meanwhile is not missed.
write systemd/system/bootwire-settings.path '[Unit]' \
    'Description=Watches for other settings of this client' '[Path]' \
    'PathExists=/run/bootwire/settings-pending'
write systemd/system/bootwire-settings.service '[Unit]' \
    'Description=Applies settings of this client' 'StartLimitIntervalSec=0' '[Service]' 'Type=oneshot' \
    'ExecStart=/run/initramfs/bin/busybox sh /run/initramfs/lib/bootwire/apply-settings.sh / change'
mkdir -p "$run/systemd/system/multi-user.target.wants"
ln -s ../bootwire-settings.path "$run/systemd/system/multi-user.target.wants/"

# A host key for sshd where the server gave none, only when sshd starts.
write systemd/system/bootwire-host-key.service '[Unit]' \
    'Description=Makes an SSH host key for this boot' 'Before=ssh.service sshd.service' \
    'ConditionPathExists=/usr/bin/ssh-keygen' 'ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key' \
    '[Service]' 'Type=oneshot' \
    'ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
for unit in ssh sshd; do
    mkdir -p "$run/systemd/system/$unit.service.wants"
    ln -s ../bootwire-host-key.service "$run/systemd/system/$unit.service.wants/"
done

# What switches a system off stays in memory, some 20 MB, most of which is there anyway. Once the boot is over,
# so that it is none of what the next boots are foreseen by.
write systemd/system/bootwire-hold.service '[Unit]' \
    'Description=Keeps in memory what switches this system off' 'DefaultDependencies=no' \
    'IgnoreOnIsolate=yes' '[Service]' 'Nice=19' \
    'ExecStart=/run/initramfs/bin/bootwire-supervisor --hold /etc/ld.so.cache /usr/bin/systemctl /usr/bin/umount /usr/lib/systemd/systemd-shutdown /usr/lib/systemd/systemd-executor /usr/lib/systemd/systemd-logind /usr/bin/dbus-daemon /usr/bin/dbus-broker'
write systemd/system/bootwire-hold.timer '[Timer]' 'OnBootSec=120'
mkdir -p "$run/systemd/system/timers.target.wants"
ln -s ../bootwire-hold.timer "$run/systemd/system/timers.target.wants/"

# The kernel may tell of tasks that wait long; it shall not panic.
write sysctl.d/zz-bootwire.conf 'kernel.hung_task_panic = 0'

# A machine that sleeps loses its connection, and wakes to a network that its own programs must bring up.
for target in sleep suspend hibernate hybrid-sleep suspend-then-hibernate; do
    ln -s /dev/null "$run/systemd/system/$target.target"
done

# udisks would offer the root on a desktop, multipath would take it for a path of its own.
write udev/rules.d/59-bootwire.rules \
    'SUBSYSTEM=="block", KERNEL=="nbd0*", ENV{UDISKS_IGNORE}="1", ENV{DM_MULTIPATH_DEVICE_PATH}="0"'
