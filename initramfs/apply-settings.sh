#!/bin/busybox sh
# shellcheck shell=dash
# Gives the system what the server has said of this client: before it starts, and again when something was
# changed. What the server does not say stays as the image has it.
#
# usage: apply-settings.sh ROOT boot|change
root=${1%/}
run=${BOOTWIRE_RUN:-/run/bootwire}

# Before anything is read: what changes from now on is another time.
[ "$2" != change ] || rm -f "$run/settings-pending"
[ -e "$run/system.env" ] || exit 0
# shellcheck source=/dev/null
. "$run/system.env"

# A link in the image may lead anywhere, the agent's own files among it.
own_folder() {
    [ -d "$root/$1" ] && [ ! -L "$root/$1" ]
}

# put PATH LINE...: another file in the place of the one there, whatever that is.
put() {
    path=$root/$1
    shift
    rm -f "$path"
    printf '%s\n' "$@" >"$path"
}

own_folder etc || exit 0

if [ "$2" = change ] && [ "$(cat "$root/etc/hostname" 2>/dev/null)" != "$CLIENT_HOSTNAME" ]; then
    put etc/hostname "$CLIENT_HOSTNAME"
    hostname "$CLIENT_HOSTNAME"
fi
if [ -n "$LOCALE" ]; then
    put etc/locale.conf "LANG=$LOCALE"
    ! own_folder etc/default || put etc/default/locale "LANG=$LOCALE"
fi
if [ -n "$TIMEZONE" ] && [ -e "$root/usr/share/zoneinfo/$TIMEZONE" ]; then
    rm -f "$root/etc/localtime"
    ln -s "/usr/share/zoneinfo/$TIMEZONE" "$root/etc/localtime"
    put etc/timezone "$TIMEZONE"
fi
if [ -n "$KEYMAP" ]; then
    put etc/vconsole.conf "KEYMAP=$KEYMAP"
    ! own_folder etc/default ||
        put etc/default/keyboard 'XKBMODEL="pc105"' "XKBLAYOUT=\"${KEYMAP%%-*}\"" 'XKBVARIANT=""' 'BACKSPACE="guess"'
fi

# A host key that all machines of an image share is nobody's. Who proves who it is gets its own from the server;
# the others make one: bootwire-host-key.service, before sshd starts. One that is kept on the machine stays.
[ "$2" = boot ] && own_folder etc/ssh || exit 0
mark=$root/etc/ssh/.bootwire-host-key
machine=$(cat "$root/etc/machine-id")
if [ -s "$run/ssh-host-key" ]; then
    rm -f "$root"/etc/ssh/ssh_host_* "$mark"
    cp "$run/ssh-host-key" "$root/etc/ssh/ssh_host_ed25519_key"
    cp "$run/ssh-host-key.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
    chmod 0600 "$root/etc/ssh/ssh_host_ed25519_key"
elif [ ! -f "$mark" ] || [ -L "$mark" ] || [ "$(cat "$mark")" != "$machine" ]; then
    rm -f "$root"/etc/ssh/ssh_host_* "$mark"
    printf '%s\n' "$machine" >"$mark"
fi
