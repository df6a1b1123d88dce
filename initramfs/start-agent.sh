#!/bin/busybox sh
# shellcheck shell=dash
# Starts the supervisor, and that the agent. The flags keep Node small and its collections short.
# A disk that hangs holds up to five threads: the others are for what the root needs meanwhile.
export UV_THREADPOOL_SIZE=8
network=/run/bootwire/network
[ ! -e $network ] || set -- -n $network
exec bootwire-supervisor "$@" -- /bin/node --max-semi-space-size=1 --v8-pool-size=1 --optimize-for-size \
    --disable-warning=ExperimentalWarning /lib/bootwire/agent/main.cjs \
    </dev/null >>/run/bootwire/agent.log 2>&1
