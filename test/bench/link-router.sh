#!/bin/sh
# First process of the User-mode Linux between the two sides of a link (link.ts): forwards packets, each
# delayed and then sent at the link's bandwidth. The root is the host's, read only.
#
# usage: link-router.sh DELAY RATE BURST_BYTES QUEUE_BYTES CLIENT_SIDE_ADDRESS SERVER_SIDE_ADDRESS
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
trap '[ $? = 0 ] || echo "router: failed"; busybox poweroff -f' EXIT
set -eu
delay=$1 rate=$2 burst=$3 queue=$4

mount -t proc proc /proc
mount -t sysfs sysfs /sys
modules=/usr/lib/uml/modules/$(uname -r)/kernel/net/sched
insmod "$modules/sch_netem.ko"
insmod "$modules/sch_tbf.ko"

# shape INTERFACE ADDRESS: the queue of the bucket counts bytes; what is delayed only has to fit.
shape() {
    ip address add "$2/24" dev "$1"
    ip link set "$1" up
    tc qdisc add dev "$1" root handle 1: netem delay "$delay" limit 100000
    tc qdisc add dev "$1" parent 1:1 handle 2: tbf rate "$rate" burst "$burst" limit "$queue"
}
shape vec0 "$5"
shape vec1 "$6"
echo 1 >/proc/sys/net/ipv4/ip_forward
echo "router: ready"
sleep infinity
