#!/bin/sh
# npm run soak [-- --minutes N --seed N]: installs what it needs, and runs it.
set -eu
cd "$(dirname "$0")/../.."
. test/support/prepare.sh

need_system
# shellcheck disable=SC2086 # a list of words
need_packages $DEMO_PACKAGES iproute2 user-mode-linux
need_npm
exec node_modules/.bin/node test/soak/soak.ts "$@"
