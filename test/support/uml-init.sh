#!/bin/sh
# First process of a User-mode Linux (uml-machine.ts): makes the usual file systems, runs the
# program given as arguments, says its exit status, and switches off. The root is the host's, read
# only; what is written goes to /tmp and /run, which are in memory and the guest's own. A checkout in the
# host's /tmp stays where it is.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
checkout=$(cd "$(dirname "$0")/../.." && pwd)
mount -t tmpfs tmpfs /run
case $checkout in
/tmp/*)
    mkdir /run/checkout
    mount --bind "$checkout" /run/checkout
    ;;
esac
mount -t tmpfs tmpfs /tmp
if [ -d /run/checkout ]; then
    mkdir -p "$checkout"
    mount --move /run/checkout "$checkout"
fi
ip link set lo up 2>/dev/null
insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/block/nbd.ko" nbds_max=2

"$@" </dev/null
echo "uml: the program ended with status $?"
busybox poweroff -f
