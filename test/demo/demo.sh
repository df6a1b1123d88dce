#!/bin/sh
# npm run demo: the stage that needs nothing but sh. Installs what is missing, then hands over to
# demo.ts.
set -eu
cd "$(dirname "$0")/../.."
. test/support/prepare.sh

need_system
# shellcheck disable=SC2086 # a list of words
need_packages $DEMO_PACKAGES
need_npm

if [ "$(id -u)" = 0 ]; then
    exec node_modules/.bin/node test/demo/demo.ts "$@"
fi
say "going on as root through sudo: the server mounts the image to take its kernel out"
trap : INT # the demo decides when it ends
status=0
as_root node_modules/.bin/node test/demo/demo.ts "$@" || status=$?
# What was built can be removed without sudo.
as_root chown -R "$(id -u):$(id -g)" .cache || true
exit "$status"
