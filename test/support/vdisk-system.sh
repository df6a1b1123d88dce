#!/bin/sh
# Makes a freshly installed system a vDisk for tests and the demo: mmdebstrap runs it last.
#
# usage: vdisk-system.sh ROOT
set -eu
root=$1

# Somebody who tries this out has no password to know; nothing but the console offers a login.
chroot "$root" passwd --delete root

# What belongs to one machine: the server gives it at every boot.
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"

# mmdebstrap's own settings of apt: proxies and keys of the machine it ran on.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"

# Timers of a system that updates itself, minutes after a boot that is over by then.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer dpkg-db-backup.timer motd-news.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
