#!/bin/sh
# Updates the system inside an ext4 image as a machine that runs it would: apt takes the new packages
# from the given sources, dpkg unpacks them over the old ones, and the file system tells its disk which
# blocks it gave back (fstrim, which Debian and Ubuntu run every week). Runs in a mount namespace of its
# own; apt is that of the host, which knows how mirrors are reached, dpkg is the image's.
#
# usage: bench-update.sh IMAGE SOURCES_FOLDER
set -eu
image=$1 sources=$2
root=/mnt

mount -o loop "$image" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --bind /dev "$root/dev"

# No service starts in here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"

# apt OPTION... COMMAND: on the image; the host's settings of how mirrors are reached stand.
apt() {
    DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qq \
        -o Dir::State="$root/var/lib/apt" -o Dir::State::status="$root/var/lib/dpkg/status" \
        -o Dir::Cache="$root/var/cache/apt" -o Dir::Log="$root/var/log/apt" \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$sources" \
        -o DPkg::Chroot-Directory="$root" -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root \
        -o APT::Install-Recommends=false -o Dpkg::Options::=--force-confold "$@"
}
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
apt update
apt --yes dist-upgrade >/dev/null
apt clean
rm -rf "$root"/var/lib/apt/lists/* "$root/usr/sbin/policy-rc.d"

umount "$root/dev" "$root/run" "$root/proc"
# What was removed is free only once the journal says so.
sync --file-system "$root"
fstrim "$root"
umount "$root"
e2fsck -fn "$image" >/dev/null
