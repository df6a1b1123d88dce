/**
 * What an administrator's own DHCP server needs to be told so that machines boot from here, as text for its
 * configuration. Each does the same: iPXE gets the script's URL, UEFI HTTP boot gets the URL of a program, all
 * other firmware gets its program by TFTP. Pure.
 */

export const DHCP_SERVERS = ['dnsmasq', 'kea', 'isc', 'mikrotik', 'windows'] as const
export type DhcpServerName = (typeof DHCP_SERVERS)[number]

export interface DhcpConfigOptions {
  /** Address of the bootwire server, IPv4. */
  readonly address: string
  readonly httpPort: number
  readonly scriptPath: string
  /** Path of a program below the server's URL. */
  readonly programPath: (name: string) => string
  /** Folder of the programs, for a DHCP server that serves TFTP itself. */
  readonly ipxeFolder: string
}

/** Of Debian's and Ubuntu's package ipxe. */
const PROGRAMS = { bios: 'undionly.kpxe', uefi: 'snponly.efi', arm64: 'ipxe-arm64.efi' } as const

interface Parts extends DhcpConfigOptions {
  readonly scriptUrl: string
  readonly programUrl: (name: string) => string
}

const TEXTS: Readonly<Record<DhcpServerName, (parts: Parts) => string>> = {
  dnsmasq,
  kea,
  isc,
  mikrotik,
  windows,
}

export function dhcpConfig(server: DhcpServerName, options: DhcpConfigOptions): string {
  const { address, httpPort, scriptPath, programPath } = options
  const serverUrl = `http://${address}:${httpPort}`
  return TEXTS[server]({
    ...options,
    scriptUrl: serverUrl + scriptPath,
    programUrl: (name) => serverUrl + programPath(name),
  })
}

function dnsmasq({ address, ipxeFolder, scriptUrl, programUrl }: Parts): string {
  return `# dnsmasq: put these lines into /etc/dnsmasq.d/bootwire.conf.
# Where another DHCP server gives out the addresses, add what makes it a proxyDHCP server (NETWORK is the
# network's address, as 10.0.0.0):
#   port=0
#   dhcp-range=NETWORK,proxy
#   dhcp-pxe-vendor=PXEClient,HTTPClient
#   pxe-prompt="bootwire",0
dhcp-userclass=set:ipxe,iPXE
dhcp-match=set:ipxe,175
dhcp-vendorclass=set:http-x64,HTTPClient:Arch:00016
dhcp-vendorclass=set:http-arm64,HTTPClient:Arch:00019
dhcp-match=set:efi-x64,option:client-arch,7
dhcp-match=set:efi-x64,option:client-arch,9
dhcp-match=set:efi-arm64,option:client-arch,11
dhcp-match=set:bios,option:client-arch,0
dhcp-option-force=tag:http-x64,60,HTTPClient
dhcp-option-force=tag:http-arm64,60,HTTPClient
dhcp-boot=tag:ipxe,${scriptUrl},,${address}
dhcp-boot=tag:http-x64,tag:!ipxe,${programUrl(PROGRAMS.uefi)},,${address}
dhcp-boot=tag:http-arm64,tag:!ipxe,${programUrl(PROGRAMS.arm64)},,${address}
dhcp-boot=tag:efi-x64,tag:!ipxe,${PROGRAMS.uefi},,${address}
dhcp-boot=tag:efi-arm64,tag:!ipxe,${PROGRAMS.arm64},,${address}
dhcp-boot=tag:bios,tag:!ipxe,${PROGRAMS.bios},,${address}
# TFTP from here; without these lines "bootwire serve --tftp" on ${address} does it.
#   enable-tftp
#   tftp-root=${ipxeFolder}
`
}

function kea({ address, scriptUrl, programUrl }: Parts): string {
  const not = "not member('bootwire-ipxe') and"
  const http = "substring(option[60].hex,0,10) == 'HTTPClient'"
  const classes = [
    ['ipxe', "substring(option[77].hex,0,4) == 'iPXE' or option[175].exists", scriptUrl],
    ['http-x64', `${not} ${http} and option[93].hex == 0x0010`, programUrl(PROGRAMS.uefi)],
    ['http-arm64', `${not} ${http} and option[93].hex == 0x0013`, programUrl(PROGRAMS.arm64)],
    ['efi-x64', `${not} (option[93].hex == 0x0007 or option[93].hex == 0x0009)`, PROGRAMS.uefi],
    ['efi-arm64', `${not} option[93].hex == 0x000b`, PROGRAMS.arm64],
    ['bios', `${not} option[93].hex == 0x0000`, PROGRAMS.bios],
  ].map(([name = '', test, file]) => ({
    name: `bootwire-${name}`,
    test,
    'next-server': address,
    'boot-file-name': file,
    ...(name.startsWith('http') && {
      'option-data': [{ name: 'vendor-class-identifier', data: 'HTTPClient', 'always-send': true }],
    }),
  }))
  return `// Kea: put this into "Dhcp4" of kea-dhcp4.conf. TFTP comes from "bootwire serve --tftp" on ${address}.
"client-classes": ${JSON.stringify(classes, null, 2)}
`
}

function isc({ address, scriptUrl, programUrl }: Parts): string {
  return `# ISC dhcpd: put this into dhcpd.conf. TFTP comes from "bootwire serve --tftp" on ${address}.
option bootwire-arch code 93 = unsigned integer 16;
option bootwire-ipxe code 175 = string;
next-server ${address};
if exists user-class and option user-class = "iPXE" {
  filename "${scriptUrl}";
} elsif exists bootwire-ipxe {
  filename "${scriptUrl}";
} elsif substring(option vendor-class-identifier, 0, 10) = "HTTPClient" {
  option vendor-class-identifier "HTTPClient";
  filename "${programUrl(PROGRAMS.uefi)}";
} elsif option bootwire-arch = 00:07 or option bootwire-arch = 00:09 {
  filename "${PROGRAMS.uefi}";
} elsif option bootwire-arch = 00:0b {
  filename "${PROGRAMS.arm64}";
} else {
  filename "${PROGRAMS.bios}";
}
`
}

function mikrotik({ address, scriptUrl, programUrl }: Parts): string {
  const sets = [
    ['ipxe', scriptUrl, 'code=77 value="iPXE" matching-type=substring'],
    ['http', programUrl(PROGRAMS.uefi), 'code=60 value="HTTPClient" matching-type=substring'],
    ['uefi', PROGRAMS.uefi, 'code=93 value=0x0007 matching-type=exact'],
  ] as const
  const options = sets.map(([name, file]) => `add name=bootwire-${name} code=67 value="'${file}'"`)
  const optionSets = sets.map(([name]) => {
    const more = name === 'http' ? ',bootwire-http-class' : ''
    return `add name=bootwire-${name} options=bootwire-${name}${more}`
  })
  const matchers = sets.map(
    ([name, , match]) =>
      `add name=bootwire-${name} server=SERVER option-set=bootwire-${name} ${match}`,
  )
  return `# MikroTik RouterOS 7: paste this into a terminal. SERVER is the one of "/ip dhcp-server", NETWORK the
# address in "/ip dhcp-server network". TFTP comes from "bootwire serve --tftp" on ${address}.
/ip dhcp-server option
${options.join('\n')}
add name=bootwire-http-class code=60 value="'HTTPClient'"
/ip dhcp-server option sets
${optionSets.join('\n')}
/ip dhcp-server matcher
${matchers.join('\n')}
/ip dhcp-server network
set [find address=NETWORK] next-server=${address} boot-file-name=${PROGRAMS.bios}
`
}

function windows({ address, scriptUrl, programUrl }: Parts): string {
  return `# Windows DHCP Server: run this in PowerShell as administrator; SCOPE is the scope's address, as 10.0.0.0.
# TFTP comes from "bootwire serve --tftp" on ${address}.
Add-DhcpServerv4Class -Name 'iPXE' -Type User -Data 'iPXE'
Add-DhcpServerv4Class -Name 'PXE BIOS' -Type Vendor -Data 'PXEClient:Arch:00000'
Add-DhcpServerv4Class -Name 'PXE UEFI x64' -Type Vendor -Data 'PXEClient:Arch:00007'
Add-DhcpServerv4Class -Name 'UEFI HTTP x64' -Type Vendor -Data 'HTTPClient:Arch:00016'
Set-DhcpServerv4OptionValue -ScopeId SCOPE -OptionId 66 -Value '${address}'
$policies = @(
  @{ Name = 'bootwire iPXE'; UserClass = @('EQ', 'iPXE*'); File = '${scriptUrl}' }
  @{ Name = 'bootwire HTTP'; VendorClass = @('EQ', 'UEFI HTTP x64*'); File = '${programUrl(PROGRAMS.uefi)}' }
  @{ Name = 'bootwire UEFI'; VendorClass = @('EQ', 'PXE UEFI x64*'); File = '${PROGRAMS.uefi}' }
  @{ Name = 'bootwire BIOS'; VendorClass = @('EQ', 'PXE BIOS*'); File = '${PROGRAMS.bios}' }
)
foreach ($policy in $policies) {
  $file = $policy.File
  $policy.Remove('File')
  Add-DhcpServerv4Policy -ScopeId SCOPE -Condition AND @policy
  Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName $policy.Name -OptionId 67 -Value $file
}
Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'bootwire HTTP' -OptionId 60 -Value 'HTTPClient'
`
}
