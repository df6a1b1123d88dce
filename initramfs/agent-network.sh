#!/bin/busybox sh
# shellcheck shell=dash
# A network of the agent's own on the card of the system: the same address, but no firewall, route or
# service of the system comes between. Whoever closes all ports, flushes addresses or puts the card into
# a bridge would else take the root away.
#
# A pair of virtual cards leads into a network namespace. What comes in for the ports below goes straight
# from the card to the agent's, before the network stack of the system sees it; what the agent sends goes
# straight out (tc-mirred(8)). Answers of ARP, what routers say of packets (ICMP 3, RFC 1191), and what DHCP
# servers say to everybody go to both.
#
# usage: agent-network.sh create FOLDER
#        agent-network.sh connect FOLDER CARD ADDRESS/PREFIX [GATEWAY]
#
# Without the drivers (veth, sch_ingress, cls_u32, act_mirred) "create" fails, and leaves nothing.
set -eu

# 0xf800 to 0xfbff by a mask: above what a system takes by itself (32768 to 60999).
PORT_FIRST=63488
PORT_LAST=64511
PORT_BASE=0xf800
PORT_MASK=0xfc00

DHCP_CLIENT_PORT=68

# The end of the pair in the system, and the agent's.
OUTSIDE=bootwire
INSIDE=card

# Not busybox's own, which its shell would take, and which knows no filters.
TC=/sbin/tc

verb=$1
namespace=$2/network

inside() {
    nsenter --net="$namespace" "$@"
}

create() {
    modprobe -qa veth sch_ingress cls_u32 act_mirred 2>/dev/null || :
    : >"$namespace"
    unshare --net="$namespace" true
    if ! has_drivers; then
        umount "$namespace"
        rm "$namespace"
        return 1
    fi
    # busybox names a namespace by a process in it.
    inside ip link set $OUTSIDE netns $$
    inside ip link set lo up
}

# The first pair of a namespace has a "veth0"; busybox cannot name both.
has_drivers() {
    inside ip link add $INSIDE type veth && inside ip link set veth0 name $OUTSIDE &&
        inside $TC qdisc add dev lo ingress &&
        inside $TC filter add dev lo parent ffff: protocol arp \
            u32 match u32 0 0 action mirred egress mirror dev lo &&
        inside $TC qdisc del dev lo ingress
}

# to_agent PRIORITY PROTOCOL VERDICT MATCH...: hands what matches to the agent.
to_agent() {
    priority=$1 protocol=$2 verdict=$3
    shift 3
    $TC filter add dev "$card" parent ffff: prio "$priority" protocol "$protocol" \
        u32 "$@" action mirred egress "$verdict" dev $OUTSIDE
}

connect() {
    card=$1 address=$2 gateway=${3:-}
    ip=${address%/*}

    link=$(ip link show dev "$card")
    mtu=$(echo "$link" | sed -n 's/.* mtu \([0-9]*\).*/\1/p')
    mac=$(echo "$link" | sed -n 's/.* link\/ether \([^ ]*\).*/\1/p')
    inside ip link set $INSIDE address "$mac" mtu "$mtu"
    ip link set $OUTSIDE mtu "$mtu"
    # It has an address for nobody; the agent's has IPv4 only.
    echo 1 >/proc/sys/net/ipv6/conf/$OUTSIDE/disable_ipv6 2>/dev/null || :
    inside sh -c "echo 1 >/proc/sys/net/ipv6/conf/$INSIDE/disable_ipv6" 2>/dev/null || :
    inside sh -c "echo $PORT_FIRST $PORT_LAST >/proc/sys/net/ipv4/ip_local_port_range"
    echo $PORT_FIRST-$PORT_LAST >/proc/sys/net/ipv4/ip_local_reserved_ports

    # Also after a try that failed half way.
    $TC qdisc del dev $OUTSIDE ingress 2>/dev/null || :
    $TC qdisc del dev "$card" ingress 2>/dev/null || :
    inside ip address flush dev $INSIDE
    $TC qdisc add dev $OUTSIDE ingress
    $TC filter add dev $OUTSIDE parent ffff: protocol all \
        u32 match u32 0 0 action mirred egress redirect dev "$card"
    $TC qdisc add dev "$card" ingress
    to_agent 1 ip redirect match ip dst "$ip/32" match ip protocol 6 0xff match ip dport $PORT_BASE $PORT_MASK
    to_agent 2 ip redirect match ip dst "$ip/32" match ip protocol 17 0xff match ip dport $PORT_BASE $PORT_MASK
    to_agent 3 ip redirect match ip dst "$ip/32" match ip protocol 17 0xff match ip dport $DHCP_CLIENT_PORT 0xffff
    to_agent 4 ip mirror match ip dst 255.255.255.255/32 match ip protocol 17 0xff match ip dport $DHCP_CLIENT_PORT 0xffff
    to_agent 5 ip mirror match ip dst "$ip/32" match ip protocol 1 0xff match ip icmp_type 3 0xff
    to_agent 6 arp mirror match u32 0 0

    ip link set $OUTSIDE up
    inside ip link set $INSIDE up
    inside ip address add "$address" dev $INSIDE
    [ -z "$gateway" ] || inside ip route add default via "$gateway" dev $INSIDE
}

shift 2
case $verb in
create) create ;;
connect) connect "$@" ;;
*) exit 2 ;;
esac
