#!/bin/busybox sh
# shellcheck shell=dash
# Has the network services of the system keep off the card the root is read over: who takes it down,
# or only flushes its address, waits for its own program for ever. By files in /run, so that the vDisk
# stays as it is; each service is told in its own way. What they would have done for names is done
# here and in /init.
#
# usage: keep-network.sh RUN_FOLDER MAC [DNS_SERVER...]
run=$1
mac=$2
shift 2

# write PATH LINE...
write() {
    path=$run/$1
    shift
    mkdir -p "${path%/*}"
    printf '%s\n' "$@" >"$path"
}

write NetworkManager/conf.d/bootwire.conf '[main]' rc-manager=unmanaged \
    '[device-bootwire]' "match-device=mac:$mac,interface-name:bootwire" managed=0

# Its name comes before those of the image and of netplan, and before what systemd makes of "ip=".
write systemd/network/00-bootwire.network '[Match]' "MACAddress=$mac" '[Link]' Unmanaged=yes
write systemd/network/00-bootwire-agent.network '[Match]' Name=bootwire '[Link]' Unmanaged=yes

# The agent's (agent-network.sh).
write sysctl.d/zz-bootwire-network.conf 'net.ipv4.ip_local_reserved_ports = 63488-64511'

# ifupdown knows cards by name, and which one udev will give this card is not known yet. The third
# waits for a card that networkd manages.
for unit in networking ifup@ systemd-networkd-wait-online; do
    write "systemd/system/$unit.service.d/bootwire.conf" '[Unit]' 'ConditionPathExists=!/run/bootwire'
done

[ $# -eq 0 ] || write systemd/resolved.conf.d/bootwire.conf '[Resolve]' "DNS=$*"
