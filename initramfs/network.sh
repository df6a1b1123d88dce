#!/bin/busybox sh
# shellcheck shell=dash
# Brings up the network card the machine booted over, and tells the agent in network.env how far it
# is. Never gives up: a cable may be put in, a DHCP server may come back.
#
# From the kernel command line: BOOTIF=01-MAC is the card, ip=ADDRESS::GATEWAY:NETMASK:HOST:CARD:HOW:DNS what
# iPXE has got for it (nfsroot.rst of the kernel has the form; ip=dhcp is one, too), vlan=ID a tagged network on
# it (or vlan=NAME:CARD, as dracut.cmdline(7) has it), bootwire.mtu= the MTU that DHCP gave. Without an address
# DHCP is asked.

run=/run/bootwire
file=$run/network.env

# Before it is said that something is missing: links and USB cards take seconds to come up.
PATIENCE_SECONDS=8

# tell STATE [INTERFACE] [ADDRESS] [GATEWAY]
tell() {
    servers=$(sed -n 's/^nameserver //p' /etc/resolv.conf 2>/dev/null | tr '\n' ' ')
    printf "STATE='%s'\nINTERFACE='%s'\nADDRESS='%s'\nGATEWAY='%s'\nDNS='%s'\n" \
        "$1" "${2:-}" "${3:-}" "${4:-}" "${servers% }" >"$file.new"
    mv "$file.new" "$file"
}

parameter() {
    sed -n "s/.*\<$1=\([^ ]*\).*/\1/p" /proc/cmdline
}

# find_card: the one iPXE used, or that ip= or vlan= names; else the first that there is.
find_card() {
    if [ -n "$device" ]; then
        [ ! -e "/sys/class/net/$device" ] || echo "$device"
        return
    fi
    mac=$(parameter BOOTIF | sed 's/^01-//; s/-/:/g' | tr A-F a-f)
    for path in /sys/class/net/*; do
        [ -e "$path/device" ] || continue
        if [ -z "$mac" ] || [ "$(cat "$path/address")" = "$mac" ]; then
            echo "${path##*/}"
            return
        fi
    done
}

# wait_for STATE COMMAND...: until the command prints something; tells the state when that takes long.
wait_for() {
    state=$1
    shift
    waited=0
    while result=$("$@") && [ -z "$result" ]; do
        [ $waited -ne $((PATIENCE_SECONDS * 10)) ] || tell "$state" "${card:-}"
        waited=$((waited + 1))
        # A card behind a bus that came up late.
        [ $((waited % 20)) -ne 0 ] || [ "$state" != no-card ] || /lib/bootwire/coldplug.sh
        sleep 0.1
    done
}

has_link() {
    [ "$(cat "/sys/class/net/$card/carrier" 2>/dev/null)" != 1 ] || echo yes
}

# enter_vlan ID [NAME]: the card becomes the one of that network.
enter_vlan() {
    name=${2:-$card.$1}
    modprobe -q 8021q
    [ -e "/sys/class/net/$name" ] || ip link add link "$card" name "$name" type vlan id "$1" || return
    card=$name
    ip link set "$card" up
}

old_ifs=$IFS
IFS=:
# shellcheck disable=SC2046 # split at the colons
set -f -- $(parameter ip)
set +f
IFS=$old_ifs
address=${1:-} gateway=${3:-} netmask=${4:-} device=${6:-} dns=${8:-}
vlan=$(parameter vlan)
case $vlan in
*:*)
    device=${vlan#*:}
    vlan_name=${vlan%%:*}
    vlan=$(echo "$vlan_name" | sed 's/.*[^0-9]//')
    ;;
*) vlan_name= ;;
esac

wait_for no-card find_card
card=$result
tell trying "$card"
ip link set "$card" up
wait_for no-link has_link
[ -z "$vlan" ] || enter_vlan "$vlan" "$vlan_name"
mtu=$(parameter bootwire.mtu)
[ -z "$mtu" ] || ip link set "$card" mtu "$mtu"

if [ -n "$address" ] && [ -n "$netmask" ]; then
    eval "$(ipcalc -p "$address" "$netmask")"
    ip address add "$address/$PREFIX" dev "$card"
    [ -z "$gateway" ] || ip route add default via "$gateway" dev "$card"
    [ -z "$dns" ] || echo "nameserver $dns" >/etc/resolv.conf
else
    # -n: gives up after the tries, so that it can be said; -q: does not stay.
    until udhcpc -i "$card" -n -q -t 4 -T 2 -O mtu -s /lib/bootwire/udhcpc.sh; do
        tell no-address "$card"
        sleep 2
    done
fi
address=$(ip -4 -o address show dev "$card" | sed -n 's/.* inet \([^ ]*\).*/\1/p' | head -n 1)
gateway=$(ip -4 route show default dev "$card" | sed -n 's/.* via \([^ ]*\).*/\1/p' | head -n 1)
if [ -e $run/network ]; then
    # shellcheck disable=SC2086 # there may be no gateway
    until /lib/bootwire/agent-network.sh connect $run "$card" "$address" $gateway; do
        tell no-agent-network "$card"
        sleep 2
    done
fi
tell up "$card" "$address" "$gateway"
