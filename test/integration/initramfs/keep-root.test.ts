/** What the initramfs leaves in /run so that a root over the network is left in peace. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { filesInRun } from '#test/support/run-folder-files.ts'

it('keep-root.sh takes the triggers out of all watchdogs, and keeps hands off the device', async () => {
  assert.deepEqual(await filesInRun('keep-root.sh'), {
    'sysctl.d/zz-bootwire.conf': 'kernel.hung_task_panic = 0\n',
    'systemd/system.conf.d/zz-bootwire.conf': '[Manager]\nRuntimeWatchdogSec=0\n',
    'systemd/system/bootwire-hold.service': [
      '[Unit]',
      'Description=Keeps in memory what switches this system off',
      'DefaultDependencies=no',
      'IgnoreOnIsolate=yes',
      '[Service]',
      'Nice=19',
      'ExecStart=/run/initramfs/bin/bootwire-supervisor --hold /etc/ld.so.cache /usr/bin/systemctl /usr/bin/umount /usr/lib/systemd/systemd-shutdown /usr/lib/systemd/systemd-executor /usr/lib/systemd/systemd-logind /usr/bin/dbus-daemon /usr/bin/dbus-broker',
      '',
    ].join('\n'),
    'systemd/system/bootwire-hold.timer': '[Timer]\nOnBootSec=120\n',
    'systemd/system/bootwire-host-key.service': [
      '[Unit]',
      'Description=Makes an SSH host key for this boot',
      'Before=ssh.service sshd.service',
      'ConditionPathExists=/usr/bin/ssh-keygen',
      'ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key',
      '[Service]',
      'Type=oneshot',
      'ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key',
      '',
    ].join('\n'),
    'systemd/system/bootwire-settings.path': [
      '[Unit]',
      'Description=Watches for other settings of this client',
      '[Path]',
      'PathExists=/run/bootwire/settings-pending',
      '',
    ].join('\n'),
    'systemd/system/bootwire-settings.service': [
      '[Unit]',
      'Description=Applies settings of this client',
      'StartLimitIntervalSec=0',
      '[Service]',
      'Type=oneshot',
      'ExecStart=/run/initramfs/bin/busybox sh /run/initramfs/lib/bootwire/apply-settings.sh / change',
      '',
    ].join('\n'),
    'systemd/system/bootwire-stopping.service': [
      '[Unit]',
      'Description=Tells bootwire that this system goes down',
      'DefaultDependencies=no',
      'Conflicts=shutdown.target',
      'Before=shutdown.target umount.target final.target poweroff.target reboot.target halt.target',
      'Before=systemd-poweroff.service systemd-reboot.service systemd-halt.service',
      'IgnoreOnIsolate=yes',
      '[Service]',
      'Type=oneshot',
      'RemainAfterExit=yes',
      'ExecStop=/run/initramfs/bin/busybox touch /run/bootwire/stopping',
      '',
    ].join('\n'),
    'systemd/system/service.d/bootwire.conf': '[Service]\nWatchdogSec=0\n',
    'udev/rules.d/59-bootwire.rules':
      'SUBSYSTEM=="block", KERNEL=="nbd0*", ENV{UDISKS_IGNORE}="1", ENV{DM_MULTIPATH_DEVICE_PATH}="0"\n',
  })
})
