#!/bin/sh
# Mounts file systems of an image read-only, where nobody else sees them, and holds them until
# standard input ends. Runs in namespaces of its own, as its first process: when it ends, however it
# ends, the kernel kills what it started, unmounts, and frees the loop devices.
#
# usage: unshare --mount --pid --fork --kill-child sh mount-image.sh METHOD FOLDER IMAGE FSTYPE OPTIONS OFFSET SIZE DEVICE...
#   METHOD   kernel, or libguestfs, which reads the image in a small virtual machine of its own
#   FOLDER   /mnt; of a second file system, a folder in it
#   OPTIONS  begins with a comma, or is empty
#   OFFSET, SIZE  where it lies in the image, in bytes
#   DEVICE   where libguestfs has it
# prints "mounted" when they are there; else what went wrong, on stderr
set -eu
method=$1
shift

by_kernel() {
    while [ $# -gt 0 ]; do
        # A link of the image would lead to a folder of this machine.
        if [ -L "$1" ] || [ ! -d "$1" ]; then
            echo "${1#/mnt} is not a folder of the image" >&2
            return 1
        fi
        mount -t "$3" -o "loop,ro,nosuid,nodev,noexec,offset=$5,sizelimit=$6$4" -- "$2" "$1"
        shift 7
    done
}

by_libguestfs() {
    # FUSE wants an empty folder
    mount -t tmpfs -o size=4k tmpfs /mnt
    # without libvirt, which confines the machine to what the image's owner may read
    export LIBGUESTFS_BACKEND=direct
    # Each image once; what lies in each folder of it.
    arguments=$#
    images=
    while [ "$arguments" -gt 0 ]; do
        folder=${1#/mnt} image=$2 type=$3 options=$4 device=$7
        shift 7
        arguments=$((arguments - 7))
        if [ "$images" != "$image" ]; then
            set -- "$@" -a "$image"
            images=$image
        fi
        set -- "$@" -m "$device:${folder:-/}:ro$options:$type"
    done
    # A host may have a /dev/kvm that does not work; without it the same takes a minute.
    guestmount --ro --format=raw "$@" /mnt ||
        LIBGUESTFS_BACKEND_SETTINGS=force_tcg guestmount --ro --format=raw "$@" /mnt
}

"by_$method" "$@"
echo mounted
exec cat >/dev/null
