#!/bin/busybox sh
# shellcheck shell=dash disable=SC2154 # udhcpc sets the variables
# Sets up what a DHCP server gave; called by udhcpc.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
[ -z "${mtu:-}" ] || ip link set dev "$interface" mtu "$mtu"
ip address flush dev "$interface"
ip address add "$ip/${mask:-24}" dev "$interface"
for gateway in $router; do
    ip route add default via "$gateway" dev "$interface" && break
done
: >/etc/resolv.conf
for server in $dns; do
    echo "nameserver $server" >>/etc/resolv.conf
done
