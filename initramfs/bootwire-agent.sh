#!/bin/sh
# shellcheck shell=dash
# bootwire-agent: in the initramfs, and in the running system as /run/initramfs/bootwire-agent, where
# it runs on the initramfs' own Node and libraries, whatever the system has.
folder=$(cd "$(dirname "$0")" && pwd -P) || exit
root=${folder%/usr/bin}
root=${root%/}
set -- "$root/lib/bootwire/agent/bootwire-agent.cjs" "$@"
if [ -z "$root" ]; then
    exec /bin/node "$@"
fi
for loader in "$root"/lib64/ld-linux-*.so.* "$root"/lib/ld-linux-*.so.*; do
    [ ! -e "$loader" ] || break
done
libraries=$(find "$root/usr/lib" "$root/usr/lib64" -name '*.so.*' -exec dirname {} + 2>/dev/null | sort -u | tr '\n' ':')
exec "$loader" --library-path "$libraries" "$root/bin/node" "$@"
