#!/bin/sh
# npm test, and npm run test:full with "full": installs what the tests need, then runs all of them,
# the quick ones first. A stage that fails does not keep the next one from running; the status is 0
# only when all went well.
#
# usage: run.sh [full]
set -eu
cd "$(dirname "$0")/.."
. test/support/prepare.sh

# Other file systems, clients of our NBD server, checks of shell, firmware of UEFI machines.
TEST_PACKAGES='xfsprogs btrfs-progs dosfstools nbdkit libnbd-bin qemu-utils fio shellcheck shfmt ovmf swtpm openssh-client
    curl ipxe dnsmasq-base xorriso mtools isolinux syslinux syslinux-common lvm2'
# A real kernel for the supervisor: 40 MB that only the long tests need.
[ "${1:-}" != full ] || TEST_PACKAGES="$TEST_PACKAGES user-mode-linux"

need_system
# shellcheck disable=SC2086 # lists of words
need_packages $DEMO_PACKAGES $TEST_PACKAGES
need_npm

if [ "$(id -u)" != 0 ]; then
    say "going on as root through sudo: tests mount images"
    status=0
    as_root env "CI=${CI:-}" sh test/run.sh "$@" || status=$?
    as_root chown -R "$(id -u):$(id -g)" .cache .tsc || true
    exit "$status"
fi

case ${1:-} in
'') boots='test/e2e/*.test.ts' ;;
full) boots='test/e2e/**/*.test.ts' ;;
*) fail "cannot run \"$1\", expected nothing or \"full\"" ;;
esac

PATH=$PWD/node_modules/.bin:$PATH
failed=

# stage NAME COMMAND...
stage() {
    name=$1
    shift
    say "$name"
    "$@" || failed="$failed, $name"
}

stage 'types, lint, format, shell' npm run --silent check
stage 'unit and property tests' node --test --test-isolation=none \
    'test/unit/**/*.test.ts' 'test/property/**/*.test.ts' 'test/conformance/**/*.test.ts' \
    'test/golden/**/*.test.ts'
stage 'images for the tests' node test/support/build-images.ts
stage 'integration tests' node --test --test-concurrency=2 --test-timeout=300000 \
    'test/integration/**/*.test.ts'
stage 'boots' node --test --test-concurrency=1 --test-timeout=900000 "$boots"

[ -z "$failed" ] || fail "failed: ${failed#, }"
say 'all tests passed'
