#!/bin/sh
# npm run bench -- NAME [ARG...]: installs what the bench needs and runs test/bench/NAME.bench.ts with
# the arguments. Without a name: lists the benches.
set -eu
cd "$(dirname "$0")/../.."
. test/support/prepare.sh

# The NBD servers that ours is measured against, and the clients that do it.
NBD_PACKAGES='nbdkit libnbd-bin qemu-utils fio'

# Links between namespaces, with a router that can delay packets.
LINK_PACKAGES='iproute2 util-linux util-linux-extra kmod busybox-static user-mode-linux'

list() {
    for file in test/bench/*.bench.ts; do
        basename "$file" .bench.ts
    done
}

name=${1:-}
if [ -z "$name" ]; then
    list
    exit
fi
shift
[ -e "test/bench/$name.bench.ts" ] ||
    fail "there is no bench \"$name\", expected one of: $(list | tr '\n' ' ')"

need_system
case $name in
nbd)
    # shellcheck disable=SC2086 # a list of words
    need_packages $NBD_PACKAGES
    ;;
link)
    # shellcheck disable=SC2086 # a list of words
    need_packages $LINK_PACKAGES
    ;;
replay | login | storm | update | import)
    # shellcheck disable=SC2086 # a list of words
    need_packages $DEMO_PACKAGES $LINK_PACKAGES nbdkit qemu-utils casync
    ;;
faults)
    # shellcheck disable=SC2086 # a list of words
    need_packages $DEMO_PACKAGES $LINK_PACKAGES fio nbdkit nbd-client
    ;;
ways-in)
    # shellcheck disable=SC2086 # a list of words
    need_packages $DEMO_PACKAGES ipxe ovmf dnsmasq-base
    ;;
chunking)
    # shellcheck disable=SC2086 # a list of words
    need_packages $DEMO_PACKAGES nbdkit casync
    ;;
*)
    # shellcheck disable=SC2086 # a list of words
    need_packages $DEMO_PACKAGES
    ;;
esac
need_npm
exec node_modules/.bin/node "test/bench/$name.bench.ts" "$@"
