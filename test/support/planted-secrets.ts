/** Files with something in them that machines should not share; all of it made up. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** In every planted file that is a secret, so that a report can be searched for it. */
export const SECRET = 'c2VjcmV0LW9mLXRoZS10ZXN0'

const PEM = `-----BEGIN PRIVATE KEY-----\n${SECRET}${SECRET}\n-----END PRIVATE KEY-----\n`
const OPENSSH = PEM.replaceAll('PRIVATE', 'OPENSSH PRIVATE')

export interface Planted {
  readonly path: string
  readonly content: string
  /** What is found; the kind of a rule. */
  readonly kind: string
  readonly detail?: string
}

export const PLANTED: readonly Planted[] = [
  {
    path: '/etc/shadow',
    content: `root:$y$j9T$${SECRET}:1:::\ndaemon:*:1:::\nann:!$6$a$${SECRET}:1:::\nnew:!!:1:::\n`,
    kind: 'password-hash',
    detail: 'root, ann',
  },
  {
    path: '/etc/shadow-',
    content: 'old:ab01FAX.bQRSU:1:::\n',
    kind: 'password-hash',
    detail: 'old',
  },
  {
    path: '/etc/passwd',
    content: 'root:x:0:0::/root:/bin/sh\nkiosk::1000:1000::/home/kiosk:/bin/sh\n',
    kind: 'no-password',
    detail: 'kiosk',
  },
  { path: '/etc/ssh/ssh_host_rsa_key', content: OPENSSH, kind: 'ssh-host-key' },
  { path: '/home/ann/.ssh/id_ed25519', content: OPENSSH, kind: 'private-key' },
  { path: '/home/ann/.ssh/work', content: OPENSSH, kind: 'private-key' },
  {
    path: '/home/ann/putty/a.ppk',
    content: `PuTTY-User-Key-File-3: ssh-rsa\n${SECRET}`,
    kind: 'private-key',
  },
  {
    path: '/home/ann/a/b/c/d/site.pem',
    content: `-----BEGIN CERTIFICATE-----\nAA\n${PEM}`,
    kind: 'private-key',
  },
  { path: '/home/ann/.gnupg/private-keys-v1.d/AB.key', content: SECRET, kind: 'private-key' },
  {
    path: '/etc/ssl/private/site.key',
    content: PEM.replaceAll('PRIVATE', 'RSA PRIVATE'),
    kind: 'private-key',
  },
  { path: '/etc/openvpn/a.conf', content: `<key>\n${PEM}</key>\n`, kind: 'private-key' },
  {
    path: '/etc/openvpn/ta.key',
    content: `#\n-----BEGIN OpenVPN Static key V1-----\n${SECRET}`,
    kind: 'private-key',
  },
  { path: '/etc/svc.json', content: JSON.stringify({ private_key: PEM }), kind: 'private-key' },
  {
    path: '/etc/wireguard/wg0.conf',
    content: `[Interface]\nPrivateKey = ${SECRET}=\n`,
    kind: 'private-key',
  },
  { path: '/etc/machine-id', content: '0123456789abcdef0123456789abcdef\n', kind: 'machine-id' },
  { path: '/etc/krb5.keytab', content: `\u0005\u0002${SECRET}`, kind: 'keytab' },
  {
    path: '/etc/NetworkManager/system-connections/Cafe.nmconnection',
    content: `[wifi-security]\nkey-mgmt=wpa-psk\npsk=${SECRET}\n`,
    kind: 'network-password',
  },
  {
    path: '/etc/wpa_supplicant/wpa_supplicant.conf',
    content: `network={\n\tssid="a"\n\tpsk="${SECRET}"\n}\n`,
    kind: 'network-password',
  },
  {
    path: '/etc/netplan/50-wifi.yaml',
    content: `network:\n  wifis:\n    wlan0:\n      access-points: {"a": {password: "${SECRET}"}}\n`,
    kind: 'network-password',
  },
  {
    path: '/etc/network/interfaces',
    content: `iface wlan0 inet dhcp\n  wpa-psk ${SECRET}\n`,
    kind: 'network-password',
  },
  {
    path: '/var/lib/iwd/Cafe.psk',
    content: `[Security]\nPassphrase=${SECRET}\n`,
    kind: 'network-password',
  },
  { path: '/home/ann/.bash_history', content: `mysql -p${SECRET}\n`, kind: 'shell-history' },
  { path: '/root/.python_history', content: SECRET, kind: 'shell-history' },
  {
    path: '/root/.aws/credentials',
    content: `[default]\naws_secret_access_key = ${SECRET}\n`,
    kind: 'credentials',
  },
  {
    path: '/root/.docker/config.json',
    content: JSON.stringify({ auths: { a: { auth: SECRET } } }, null, 2),
    kind: 'credentials',
  },
  { path: '/root/.git-credentials', content: `https://a:${SECRET}@b`, kind: 'credentials' },
  {
    path: '/root/.netrc',
    content: `machine a login b\n  password ${SECRET}\n`,
    kind: 'credentials',
  },
  { path: '/root/.pgpass', content: `db:5432:*:a:${SECRET}\n`, kind: 'credentials' },
  { path: '/root/.npmrc', content: `//registry/:_authToken=${SECRET}\n`, kind: 'credentials' },
  {
    path: '/root/.config/gcloud/application_default_credentials.json',
    content: SECRET,
    kind: 'credentials',
  },
  {
    path: '/root/.kube/config',
    content: `users:\n- user:\n    token: ${SECRET}\n`,
    kind: 'credentials',
  },
  { path: '/var/lib/systemd/random-seed', content: SECRET, kind: 'random-seed' },
  { path: '/var/lib/systemd/credential.secret', content: SECRET, kind: 'credential-secret' },
  {
    path: '/var/lib/dhcp/dhclient.leases',
    content: 'default-duid "\\000";\n',
    kind: 'dhcp-identity',
  },
  {
    path: '/etc/iscsi/initiatorname.iscsi',
    content: 'InitiatorName=iqn.1\n',
    kind: 'initiator-name',
  },
  {
    path: '/etc/apt/auth.conf',
    content: `machine a login b password ${SECRET}\n`,
    kind: 'apt-password',
  },
  {
    path: '/etc/apt/sources.list.d/a.list',
    content: `deb https://a:${SECRET}@b.example/ c d\n`,
    kind: 'apt-password',
  },
  {
    path: '/home/ann/.ssh/authorized_keys',
    content: '# mine\nssh-ed25519 AAAA a\n\nssh-rsa BBBB b\n',
    kind: 'authorized-keys',
    detail: '2 keys',
  },
]

/** What lies in the same places in a clean system, and is none of it. */
export const HARMLESS: Readonly<Record<string, string>> = {
  '/etc/gshadow': 'root:*::\nadm:!::ann\nsudo:::\n',
  '/etc/ssh/ssh_host_rsa_key.pub': 'ssh-rsa AAAA',
  '/etc/ssh/sshd_config': 'HostKey /etc/ssh/ssh_host_rsa_key\n',
  '/etc/ssh/ssh_host_ecdsa_key': '',
  '/home/ann/.ssh/id_ed25519.pub': 'ssh-ed25519 AAAA',
  '/home/ann/manual.txt': 'It begins with\n-----BEGIN PRIVATE KEY-----\n...\n',
  '/home/ann/.local/lib/python3.11/site-packages/test/key.pem': PEM,
  '/etc/ssl/certs/a.pem': '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
  '/etc/NetworkManager/system-connections/Wired.nmconnection':
    '[802-11-wireless-security]\npsk-flags=1\npassword-flags=0\npsk=\n',
  '/etc/wpa_supplicant/functions.sh': '#psk="commented"\npsk=ext:elsewhere\n',
  '/etc/netplan/01-wired.yaml': '# password: none\nnetwork:\n  ethernets: {}\n',
  '/etc/wireguard/README': 'PrivateKey is not set here\n',
  '/root/.aws/config': '[default]\nregion = eu-central-1\n',
  '/root/.docker/config.json': '{"auths": {}, "credsStore": "pass"}',
  '/root/.kube/config': 'users: []\n',
  '/root/.npmrc': 'save-exact=true\n',
  '/root/.bash_history': '',
  '/var/lib/dbus/machine-id': '',
  '/etc/machine-id': 'uninitialized\n',
  '/etc/iscsi/initiatorname.iscsi': 'GenerateName=yes\n',
  '/etc/apt/sources.list':
    '# deb http://a:b@c/ d e\ndeb http://deb.debian.org:80/debian bookworm main\n',
  '/home/ann/.ssh/authorized_keys': '# none yet\n\n',
  '/etc/a.keytab': 'no keytab',
}

export async function plant(folder: string, path: string, content: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true })
  await writeFile(join(folder, path), content)
}

export async function plantSecrets(folder: string): Promise<void> {
  for (const { path, content } of PLANTED) await plant(folder, path, content)
}
