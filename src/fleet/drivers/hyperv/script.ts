/**
 * All that is ever run on a Hyper-V host: one constant script in one long-lived powershell.exe. Pure.
 *
 *     ssh … powershell.exe -EncodedCommand BOOTSTRAP       a constant that reads one line and runs it
 *     we    base64 of SCRIPT
 *     we    MARK-1 look                                   it   MARK-1 {"result":{"systems":[…],…}}
 *     we    MARK-2 act start GUID                         it   MARK-2 {"result":{"returned":4096}}
 *
 * Requests are data that the script reads, never code: a verb it compares with its own, and a GUID it parses as one. Answers are
 * one line each, since JSON has no line breaks of its own; MARK is random for each connection.
 *
 * The script comes by standard input because a command line ends at 8,191 characters in cmd.exe.
 *
 * @source PowerShell 5.1, which every Windows Server since 2016 has; Hyper-V WMI provider v2 (names are facts)
 */

const VIRTUALIZATION = 'root/virtualization/v2';
const MACHINE = 'root/cimv2';

/** What is asked for, class by class: properties by name, since some classes have a hundred. */
const QUERIES: readonly (readonly [
  when: string,
  name: string,
  space: string,
  of: string,
  names: string,
  only: string,
])[] = [
  ['look', 'systems', VIRTUALIZATION, 'Msvm_ComputerSystem', 'Name,ElementName,EnabledState,ReplicationMode', ''],
  [
    'look',
    'settings',
    VIRTUALIZATION,
    'Msvm_VirtualSystemSettingData',
    'VirtualSystemIdentifier,ElementName,BIOSGUID,CreationTime,VirtualSystemSubType,Notes',
    // Snapshots and VMs that are only planned have settings too.
    "VirtualSystemType='Microsoft:Hyper-V:System:Realized'",
  ],
  ['look', 'memory', VIRTUALIZATION, 'Msvm_MemorySettingData', 'InstanceID,VirtualQuantity', ''],
  ['look', 'processors', VIRTUALIZATION, 'Msvm_ProcessorSettingData', 'InstanceID,VirtualQuantity', ''],
  ['look', 'synthetic', VIRTUALIZATION, 'Msvm_SyntheticEthernetPortSettingData', 'InstanceID,Address', ''],
  ['look', 'emulated', VIRTUALIZATION, 'Msvm_EmulatedEthernetPortSettingData', 'InstanceID,Address', ''],
  ['look', 'connections', VIRTUALIZATION, 'Msvm_EthernetPortAllocationSettingData', 'InstanceID,HostResource', ''],
  ['look', 'switches', VIRTUALIZATION, 'Msvm_VirtualEthernetSwitch', 'Name,ElementName', ''],
  [
    'look',
    'storage',
    VIRTUALIZATION,
    'Msvm_StorageAllocationSettingData',
    'InstanceID,ResourceSubType,Parent,HostResource',
    '',
  ],
  [
    'look',
    'devices',
    VIRTUALIZATION,
    'Msvm_ResourceAllocationSettingData',
    'InstanceID,ResourceSubType,Parent,AddressOnParent',
    '',
  ],
  ['look', 'addresses', VIRTUALIZATION, 'Msvm_GuestNetworkAdapterConfiguration', 'InstanceID,IPAddresses', ''],
  ['look', 'guests', VIRTUALIZATION, 'Msvm_KvpExchangeComponent', 'SystemName,GuestIntrinsicExchangeItems', ''],
  ['look', 'computer', MACHINE, 'Win32_ComputerSystem', 'Name,TotalPhysicalMemory,NumberOfLogicalProcessors', ''],
  ['look', 'product', MACHINE, 'Win32_ComputerSystemProduct', 'UUID', ''],
  ['look', 'cpus', MACHINE, 'Win32_Processor', 'Name,Architecture', ''],
  ['look', 'system', MACHINE, 'Win32_OperatingSystem', 'Caption,Version,LastBootUpTime,LocalDateTime', ''],
  ['name', 'computer', MACHINE, 'Win32_ComputerSystem', 'Name', ''],
  ['name', 'system', MACHINE, 'Win32_OperatingSystem', 'Caption,Version', ''],
  ['use', 'systems', VIRTUALIZATION, 'Msvm_ComputerSystem', 'Name,ElementName,EnabledState,ProcessID', ''],
  ['use', 'summaries', VIRTUALIZATION, 'Msvm_SummaryInformation', 'Name,MemoryUsage,NumberOfProcessors', ''],
  ['use', 'synthetic', VIRTUALIZATION, 'Msvm_SyntheticEthernetPortSettingData', 'InstanceID', ''],
  ['use', 'emulated', VIRTUALIZATION, 'Msvm_EmulatedEthernetPortSettingData', 'InstanceID', ''],
  [
    'use',
    'storage',
    VIRTUALIZATION,
    'Msvm_StorageAllocationSettingData',
    'InstanceID,ResourceSubType,HostResource',
    '',
  ],
  // A request each: a Windows that lacks one of these classes answers the others.
  [
    'processors',
    'rows',
    MACHINE,
    'Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor',
    'Name,PercentTotalRunTime',
    '',
  ],
  [
    'cards',
    'rows',
    MACHINE,
    'Win32_PerfRawData_NvspNicStats_HyperVVirtualNetworkAdapter',
    'Name,BytesReceivedPersec,BytesSentPersec',
    '',
  ],
  [
    'drives',
    'rows',
    MACHINE,
    'Win32_PerfRawData_Counters_HyperVVirtualStorageDevice',
    'Name,ReadBytesPersec,WriteBytesPersec,ReadOperationsPerSec,WriteOperationsPerSec',
    '',
  ],
  [
    'logical',
    'rows',
    MACHINE,
    'Win32_PerfRawData_HvStats_HyperVHypervisorLogicalProcessor',
    'Name,PercentTotalRunTime',
    '',
  ],
  ['host', 'computer', MACHINE, 'Win32_ComputerSystem', 'Name', ''],
  ['host', 'product', MACHINE, 'Win32_ComputerSystemProduct', 'UUID', ''],
  [
    'host',
    'system',
    MACHINE,
    'Win32_OperatingSystem',
    'LastBootUpTime,LocalDateTime,TotalVisibleMemorySize,FreePhysicalMemory',
    '',
  ],
];

export const HARD_DISK = 'Microsoft:Hyper-V:Virtual Hard Disk';

const ASKED = QUERIES.map((words) => words.join('|')).join('\n');

export const SCRIPT = `$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
$space='${VIRTUALIZATION}'
$out=[Console]::OpenStandardOutput()
$sizes=@{}
$asked=@'
${ASKED}
'@ -split "\\r?\\n"
function Say($mark,$what){
  $bytes=[Text.Encoding]::UTF8.GetBytes($mark+' '+(ConvertTo-Json -InputObject $what -Depth 5 -Compress)+"\`n")
  $out.Write($bytes,0,$bytes.Length)
  $out.Flush()
}
function Ask($when){
  $found=@{}
  foreach($line in $asked){
    $of,$name,$where,$class,$properties,$only=$line -split '\\|'
    if($of -ne $when){continue}
    $query="SELECT $properties FROM $class"
    if($only){$query+=" WHERE $only"}
    $found[$name]=@(Get-CimInstance -Namespace $where -Query $query | Select-Object -Property ($properties -split ','))
  }
  $found
}
function Sizes($paths){
  $service=Get-CimInstance -Namespace $space -ClassName Msvm_ImageManagementService
  foreach($path in $paths){
    $known=$sizes[$path]
    if(-not $known -or $known.At -lt (Get-Date).AddMinutes(-10)){
      $known=@{At=Get-Date;Largest=$null;Format=$null}
      try{
        $told=[xml](Invoke-CimMethod -InputObject $service -MethodName GetVirtualHardDiskSettingData -Arguments @{Path=$path}).SettingData
        foreach($one in $told.INSTANCE.PROPERTY){
          if($one.NAME -eq 'MaxInternalSize'){$known.Largest=[string]$one.VALUE}
          if($one.NAME -eq 'Format'){$known.Format=[string]$one.VALUE}
        }
      }catch{}
      $sizes[$path]=$known
    }
    $used=$null
    try{$used=([IO.FileInfo]$path).Length}catch{}
    @{Path=$path;MaxInternalSize=$known.Largest;Format=$known.Format;FileSize=$used}
  }
}
function Act($verb,$text){
  $id=([guid]$text).ToString().ToUpperInvariant()
  $vm=Get-CimInstance -Namespace $space -Query "SELECT * FROM Msvm_ComputerSystem WHERE Name='$id'"
  if(-not $vm){return -1}
  if($verb -eq 'resume' -and $vm.EnabledState -eq 3){return 32775}
  $state=@{start=2;stop=3;pause=9;resume=2}[$verb]
  if($state){return (Invoke-CimMethod -InputObject $vm -MethodName RequestStateChange -Arguments @{RequestedState=[uint16]$state}).ReturnValue}
  if($verb -eq 'snapshot'){
    $service=Get-CimInstance -Namespace $space -ClassName Msvm_VirtualSystemSnapshotService
    return (Invoke-CimMethod -InputObject $service -MethodName CreateSnapshot -Arguments @{AffectedSystem=$vm;SnapshotSettings='';SnapshotType=[uint16]2}).ReturnValue
  }
  $method=@{shutdown='InitiateShutdown';reboot='InitiateReboot'}[$verb]
  if(-not $method){return 32773}
  $guest=Get-CimInstance -Namespace $space -Query "SELECT * FROM Msvm_ShutdownComponent WHERE SystemName='$id'"
  if(-not $guest){return -2}
  return (Invoke-CimMethod -InputObject $guest -MethodName $method -Arguments @{Force=$false;Reason='berth'}).ReturnValue
}
while($null -ne ($line=[Console]::In.ReadLine())){
  $mark,$verb,$what,$id=$line.Trim() -split ' '
  try{
    if($verb -eq 'act'){Say $mark @{result=@{returned=(Act $what $id)}};continue}
    $found=Ask $verb
    if($verb -eq 'look'){
      $paths=@($found.storage | Where-Object {$_.ResourceSubType -eq '${HARD_DISK}'} | ForEach-Object {$_.HostResource} | Select-Object -Unique)
      $found.disks=@(Sizes $paths)
    }
    Say $mark @{result=$found}
  }catch{
    Say $mark @{error=@{message=[string]$_.Exception.Message;code=[string]$_.FullyQualifiedErrorId}}
  }
}
`;

const BOOTSTRAP =
  '&([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String([Console]::In.ReadLine()))))';

/** For the far end's shell, cmd.exe or PowerShell: letters, digits, `-`, `.`, `+`, `/` and `=` alone mean the same to both. */
export const REMOTE_WORDS: readonly string[] = [
  'powershell.exe',
  '-NoLogo',
  '-NoProfile',
  '-NonInteractive',
  '-EncodedCommand',
  Buffer.from(BOOTSTRAP, 'utf16le').toString('base64'),
];

export const SCRIPT_LINE = `${Buffer.from(SCRIPT, 'utf8').toString('base64')}\n`;
