#!/bin/sh
# Makes a freshly installed system with xfce4 and lightdm a desktop that logs somebody in by itself
# and says on the serial console when the session is there: mmdebstrap runs it last.
#
# usage: desktop-system.sh ROOT
set -eu
root=$1

chroot "$root" useradd --create-home --shell /bin/sh --groups dialout kiosk
mkdir -p "$root/etc/lightdm/lightdm.conf.d" "$root/etc/xdg/autostart"
printf '[Seat:*]\nautologin-user=kiosk\nautologin-user-timeout=0\nuser-session=xfce\n' \
    >"$root/etc/lightdm/lightdm.conf.d/50-kiosk.conf"

# The session starts this last, after window manager, panel and desktop. The serial console belongs to
# the group dialout.
cat >"$root/etc/xdg/autostart/session-is-up.desktop" <<'END'
[Desktop Entry]
Type=Application
Name=Says that the session is up
Exec=sh -c 'echo "the session is up" >/dev/ttyS0'
END
