#!/bin/sh
# Mounts one file system of an image read-only, where nobody else sees it, and holds it until
# standard input ends. Runs in namespaces of its own, as its first process: when it ends, however it
# ends, the kernel kills what it started, unmounts, and frees the loop device.
#
# usage: unshare --mount --pid --fork --kill-child sh mount-image.sh METHOD IMAGE FSTYPE OPTIONS OFFSET SIZE PARTITION
#   METHOD     kernel, or libguestfs, which reads the image in a small virtual machine of its own
#   OPTIONS    begins with a comma, or is empty
#   PARTITION  counts from 1; 0 is the whole image
# prints "mounted" when /mnt is the file system; else what went wrong, on stderr
set -eu
method=$1 image=$2 type=$3 options=$4 offset=$5 size=$6 partition=$7
folder=/mnt

case $method in
kernel)
    mount -t "$type" -o "loop,ro,nosuid,nodev,noexec,offset=$offset,sizelimit=$size$options" \
        -- "$image" "$folder"
    ;;
libguestfs)
    device=/dev/sda
    [ "$partition" = 0 ] || device=/dev/sda$partition
    by_guestmount() {
        guestmount --ro --format=raw -a "$image" -m "$device:/:ro$options:$type" "$folder"
    }
    # FUSE wants an empty folder
    mount -t tmpfs -o size=4k tmpfs "$folder"
    # without libvirt, which confines the machine to what the image's owner may read
    export LIBGUESTFS_BACKEND=direct
    # A host may have a /dev/kvm that does not work; without it the same takes a minute.
    by_guestmount || LIBGUESTFS_BACKEND_SETTINGS=force_tcg by_guestmount
    ;;
esac
echo mounted
exec cat >/dev/null
