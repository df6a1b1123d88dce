/**
 * What an image should not share between machines: what it is, what to do about it, where it lies and how
 * it is recognized there. A file is held against every sign whose paths it matches. What `*`, `**` and `~`
 * stand for is in path-pattern.ts.
 */
import type { Severity } from './lint-report.ts'
import {
  keytab,
  linesCounted,
  matching,
  noPasswords,
  notEmpty,
  passwordHashes,
  privateKey,
  type Recognize,
} from './recognizers.ts'

/** Goes up with every change of what is found: reports that are kept are made anew then. */
export const RULES_VERSION = 1

export interface LintRule {
  /** Stable, for programs. */
  readonly kind: string
  readonly severity: Severity
  /** What it is, and why it matters. */
  readonly what: string
  /** What to do about it. */
  readonly action: string
  readonly signs: readonly LintSign[]
}

export interface LintSign {
  readonly where: readonly string[]
  /** Of these, paths that are none. */
  readonly except?: RegExp
  readonly isFound: Recognize
  /** Only where nothing else is found: any file may be one. */
  readonly isLastResort?: boolean
}

/** What people install below their homes brings keys for its own tests. */
const INSTALLED =
  /\/(?:node_modules|site-packages|dist-packages|python[\d.]*\/test|\.cargo\/registry|go\/pkg|\.cache)\//

/** Of configuration files: `name = value`, not a value that lies elsewhere (`ext:`, wpa_supplicant). */
const assignment = (names: string): Recognize =>
  matching(new RegExp(`^[ \\t]*(?:${names})[ \\t]*=[ \\t]*(?!ext:)[^\\s#]`, 'm'))

export const LINT_RULES: readonly LintRule[] = [
  {
    kind: 'password-hash',
    severity: 'secret',
    what: 'hash of a password, which can be guessed at leisure',
    action:
      'Take it out (usermod -p "*" NAME) and log in with keys or a directory service, or use a long password that is used nowhere else',
    signs: [
      {
        where: [
          '/etc/shadow',
          '/etc/shadow-',
          '/etc/gshadow',
          '/etc/gshadow-',
          '/etc/passwd',
          '/etc/passwd-',
        ],
        isFound: passwordHashes,
      },
    ],
  },
  {
    kind: 'ssh-host-key',
    severity: 'secret',
    what: 'private key of the SSH server: whoever has it can pose as any of the machines',
    action:
      'Remove the keys (shred -u /etc/ssh/ssh_host_*_key): streamed machines never use them, but whoever reads the image has them. Each gets or makes its own at its boot',
    signs: [{ where: ['/etc/ssh/ssh_host_*_key'], isFound: notEmpty }],
  },
  {
    kind: 'private-key',
    severity: 'secret',
    what: 'private key of a person or a service',
    action:
      'Remove it (shred -u FILE), make its certificate invalid or take it out of the authorized_keys it is in, and give each machine its own',
    signs: [
      { where: ['~/.ssh/id_*'], except: /\.pub$/, isFound: notEmpty },
      { where: ['~/.gnupg/private-keys-v1.d/*.key', '~/.gnupg/secring.gpg'], isFound: notEmpty },
      {
        where: ['/etc/wireguard/**/*', '/etc/systemd/network/**/*'],
        isFound: assignment('PrivateKey|PresharedKey'),
      },
      {
        where: [
          '/etc/**/*',
          '~/.ssh/**/*',
          '~/.config/**/*',
          '~/*',
          '~/*/*',
          '~/*/*/*',
          '~/**/*.pem',
          '~/**/*.key',
          '~/**/*.ppk',
          '~/**/*.ovpn',
        ],
        except: INSTALLED,
        isFound: privateKey,
        isLastResort: true,
      },
    ],
  },
  {
    kind: 'keytab',
    severity: 'secret',
    what: 'Kerberos keytab: whoever has it is this machine or service to the domain',
    action: 'Remove it (shred -u FILE), and join the domain on each machine, not in the image',
    signs: [
      { where: ['/etc/**/*.keytab', '/var/lib/**/*.keytab', '~/**/*.keytab'], isFound: keytab },
    ],
  },
  {
    kind: 'network-password',
    severity: 'secret',
    what: 'password of a Wi-Fi, a VPN or another network',
    action:
      'Remove the network, which a streamed machine with its cable does not need, and change the password',
    signs: [
      {
        where: ['/etc/NetworkManager/system-connections/*'],
        isFound: assignment(
          'psk|[a-z-]*password(?:-raw)?|wep-key[0-3]|pin|secret|Xauth password|IPSec secret',
        ),
      },
      {
        where: ['/etc/wpa_supplicant.conf', '/etc/wpa_supplicant/*'],
        isFound: assignment('psk|password|sae_password|wep_key[0-3]|private_key_passwd'),
      },
      {
        where: ['/etc/netplan/*'],
        isFound: matching(
          /^[^#\n]{0,400}\b(?:password|psk|client-key-password)["']?[ \t]*:[ \t]*[^\s#]/m,
        ),
      },
      {
        where: ['/etc/network/interfaces', '/etc/network/interfaces.d/*'],
        isFound: matching(
          /^[ \t]*(?:wpa-psk|wpa-password|wpa-passphrase|wireless-key\d?)[ \t]+\S/m,
        ),
      },
      {
        where: ['/var/lib/iwd/*.psk', '/var/lib/iwd/*.8021x'],
        isFound: assignment('Passphrase|PreSharedKey|SAE-[A-Za-z0-9-]+|[A-Za-z0-9-]*Password'),
      },
    ],
  },
  {
    kind: 'credentials',
    severity: 'secret',
    what: 'password or token of a cloud, a registry or another service',
    action: 'Log out of it or remove it (shred -u FILE), and make it invalid',
    signs: [
      {
        where: ['~/.aws/credentials', '~/.aws/config'],
        isFound: assignment('aws_secret_access_key|aws_session_token'),
      },
      {
        where: ['~/.docker/config.json', '~/.config/containers/auth.json'],
        isFound: matching(/"(?:auth|identitytoken|registrytoken|password)"[ \t]*:[ \t]*"[^"]/),
      },
      {
        where: ['~/.kube/config', '/etc/kubernetes/*.conf', '/etc/rancher/k3s/k3s.yaml'],
        isFound: matching(/^[ \t]*(?:- )?"?(?:client-key-data|token|password)"?[ \t]*:[ \t]*\S/m),
      },
      {
        where: [
          '~/.config/gcloud/credentials.db',
          '~/.config/gcloud/access_tokens.db',
          '~/.config/gcloud/application_default_credentials.json',
          '~/.config/gcloud/legacy_credentials/**/*.json',
          '~/.azure/accessTokens.json',
          '~/.azure/msal_token_cache.*',
          '~/.azure/service_principal_entries.json',
          '~/.git-credentials',
          '~/.config/git/credentials',
          '~/.vault-token',
        ],
        isFound: notEmpty,
      },
      { where: ['~/.pgpass'], isFound: matching(/^[^#:\n]+:[^:\n]+:[^:\n]+:[^:\n]+:\S/m) },
      {
        where: [
          '~/.netrc',
          '~/.my.cnf',
          '~/.npmrc',
          '~/.pypirc',
          '~/.cargo/credentials*',
          '~/.config/gh/hosts.yml',
          '~/.config/rclone/rclone.conf',
          '~/.terraform.d/credentials.tfrc.json',
          '~/.smbcredentials',
          '/etc/**/*.cred',
          '/etc/**/*credentials*',
        ],
        isFound: matching(
          /^[^#\n]{0,400}(?:password|passwd|pass|token|secret|_auth)["']?[ \t=:]{1,40}[^\s=:]/im,
        ),
      },
    ],
  },
  {
    kind: 'apt-password',
    severity: 'secret',
    what: 'password of a package repository or proxy',
    action: 'Take it out when the image is made, and change it',
    signs: [
      {
        where: ['/etc/apt/auth.conf', '/etc/apt/auth.conf.d/*'],
        isFound: matching(/^[^#\n]{0,400}\bpassword[ \t]+\S/m),
      },
      {
        where: ['/etc/apt/sources.list', '/etc/apt/sources.list.d/*', '/etc/apt/apt.conf.d/*'],
        isFound: matching(/^[^#\n]{0,400}:\/\/[^\s/:@]{1,200}:[^\s/@]{1,200}@/m),
      },
    ],
  },
  {
    kind: 'shell-history',
    severity: 'secret',
    what: 'what somebody typed, often with passwords in it',
    action:
      'Remove it (shred -u FILE); "unset HISTFILE" before the last logout keeps a shell from writing it again',
    signs: [
      {
        where: ['~/.*history', '~/.*_hist', '~/.local/share/fish/fish_history'],
        isFound: notEmpty,
      },
    ],
  },
  {
    kind: 'credential-secret',
    severity: 'secret',
    what: "key that systemd encrypts services' credentials with",
    action: 'Remove it (shred -u FILE); systemd makes another when it needs one',
    signs: [{ where: ['/var/lib/systemd/credential.secret'], isFound: notEmpty }],
  },
  {
    kind: 'machine-id',
    severity: 'identity',
    what: 'machine-id of where the image was made',
    action:
      'The server gives each client its own: truncate -s 0 /etc/machine-id; rm /var/lib/dbus/machine-id',
    signs: [
      {
        where: ['/etc/machine-id', '/var/lib/dbus/machine-id'],
        isFound: matching(/^[0-9a-f]{32}\s?$/),
      },
    ],
  },
  {
    kind: 'random-seed',
    severity: 'identity',
    what: 'seed of the random numbers, the same on all machines',
    action: 'Remove it (rm FILE)',
    signs: [
      {
        where: [
          '/var/lib/systemd/random-seed',
          '/var/lib/urandom/random-seed',
          '/var/lib/random-seed',
          '/var/lib/misc/random-seed',
        ],
        isFound: notEmpty,
      },
    ],
  },
  {
    kind: 'dhcp-identity',
    severity: 'identity',
    what: 'leases or DUID of a DHCP client: machines with the same one may get the same address',
    action: 'Remove it (rm FILE)',
    signs: [
      {
        where: [
          '/var/lib/dhcp/*',
          '/var/lib/dhclient/*',
          '/var/lib/dhcpcd/*',
          '/var/lib/dhcpcd5/*',
          '/var/lib/NetworkManager/*lease',
          '/var/lib/NetworkManager/secret_key',
          '/etc/dhcpcd.duid',
          '/etc/dhcpcd.secret',
        ],
        isFound: notEmpty,
      },
    ],
  },
  {
    kind: 'initiator-name',
    severity: 'identity',
    what: 'name by which storage servers know the machine',
    action: 'Remove it; its package makes another (iscsi-iname, nvme gen-hostnqn)',
    signs: [
      {
        where: ['/etc/iscsi/initiatorname.iscsi', '/etc/nvme/hostid', '/etc/nvme/hostnqn'],
        isFound: matching(/^(?:InitiatorName[ \t]*=|[0-9a-f]{8}-|nqn\.)/m),
      },
    ],
  },
  {
    kind: 'no-password',
    severity: 'hint',
    what: 'account that needs no password',
    action: 'Lock it unless everybody at a machine may use it: usermod -p "*" NAME',
    signs: [{ where: ['/etc/shadow', '/etc/passwd'], isFound: noPasswords }],
  },
  {
    kind: 'authorized-keys',
    severity: 'hint',
    what: 'SSH keys that may log in on every machine',
    action: 'Look whether it is those that shall, and no more',
    signs: [
      {
        where: [
          '~/.ssh/authorized_keys*',
          '/etc/ssh/authorized_keys/*',
          '/etc/ssh/authorized_keys.d/*',
        ],
        isFound: linesCounted('key'),
      },
    ],
  },
]
