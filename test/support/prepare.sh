#!/bin/sh
# What a bare Debian or Ubuntu machine lacks for the demo and the tests, as functions: to be sourced
# from the top of the checkout. Installs nothing that is there; says in words what it does.

say() {
    printf 'bootwire: %s\n' "$*"
}

fail() {
    printf 'bootwire: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "cannot run \"$1\" as root: there is no sudo. Run this as root, or install sudo"
    fi
}

# need_system: the machine is one that bootwire runs on.
need_system() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        fail "cannot run on $(uname -s) $(uname -m), expected Linux on x86_64"
}

# need_packages NAME...: installs those that are missing.
need_packages() {
    missing=
    for package; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        fail "needs the programs of these packages, and there is no apt-get to install them:$missing"
    say "installing system packages with apt:$missing"
    # A repository of somebody else that is out of order must not keep ours away.
    as_root apt-get -qq update || say "apt-get update failed; trying with the lists there are"
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null ||
        fail "apt could not install:$missing"
}

installed() {
    dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# need_npm: the packages of package-lock.json, and with them the Node that everything runs on.
need_npm() {
    lock=node_modules/.package-lock.json
    if [ -e "$lock" ] && [ -z "$(find package-lock.json -newer "$lock")" ]; then
        return 0
    fi
    command -v npm >/dev/null || fail "needs npm: apt-get install npm"
    say "installing npm packages, Node among them (npm ci)"
    npm ci --no-audit --no-fund --loglevel=error || fail "npm ci failed"
}

# What builds a vDisk and the initramfs, and starts a machine.
# shellcheck disable=SC2034 # for those who source this file
DEMO_PACKAGES='mount qemu-system-x86 ipxe-qemu mmdebstrap e2fsprogs fdisk util-linux kmod cpio zstd xz-utils
    busybox-static iproute2 dmsetup gcc libc6-dev'
