export type { Retention } from './collector/pruner.ts';
export {
  type Credentials,
  type DriverSession,
  type FleetDriver,
  POWER_VERBS,
  type PowerVerb,
  type SourceTarget,
} from './driver.ts';
export { berthDriver, OWN_URL, type OwnVms } from './drivers/berth/berth-driver.ts';
export { hypervDriver } from './drivers/hyperv/hyperv-driver.ts';
export { libvirtDriver } from './drivers/libvirt/libvirt-driver.ts';
export { vsphereDriver } from './drivers/vsphere/vsphere-driver.ts';
export { xapiDriver } from './drivers/xapi/xapi-driver.ts';
export { xenDriver } from './drivers/xen/xen-driver.ts';
export { type Check, Fleet } from './fleet.ts';
export type { ChangeListing, IntervalListing } from './inventory/history-queries.ts';
export type { HostUseListing } from './inventory/host-use.ts';
export type { OwnerRules } from './inventory/owner-rules.ts';
export {
  FILTER_NAMES,
  type FilterName,
  type Filters,
  type HostListing,
  type Page,
  type SightingListing,
  SORT_KEYS,
  type SortKey,
  type VmListing,
  vmNumber,
} from './inventory/queries.ts';
export type { Source } from './inventory/sources.ts';
export { openUsageHistory, type UsageFact } from './inventory/usage-facts.ts';
export type { LiveFigures } from './live-figures.ts';
export { ownMachineUuid } from './own-machine.ts';
export { parseCredentials } from './vault.ts';
