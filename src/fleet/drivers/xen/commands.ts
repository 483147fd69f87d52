/**
 * All that is ever typed into a host's shell. Constants: what a host or a guest says is never part of them, but for
 * the number of a domain, which is made of digits by its type.
 */

/** Words that nobody's language changes, and root's programs for a user whose PATH lacks them. */
export const PREPARE =
  'PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL; unset HISTFILE; command -v xl';

export const HAS_WATCH = 'command -v xenstore-watch';
/** Settings and devices of every domain whose configuration xl has kept, as JSON. */
export const CONFIGURATIONS = 'xl list -l';
/** One row for each domain: state, processors, memory, time, UUID. */
export const STATES = 'xl list -v';
export const INFO = 'xl info';
/** dom0 booted with the host; its processors are the host's. The product's UUID is missing on some machines. */
export const HOST =
  "cat /proc/uptime; grep -m1 '^model name' /proc/cpuinfo; cat /sys/class/dmi/id/product_uuid 2>/dev/null || :";
/** Another one each time the host boots; dom0 boots with it. */
export const BOOT = 'cat /proc/sys/kernel/random/boot_id';
/** dom0's own row, the memory that nobody has, and since when dom0 is up. */
export const HOST_USE = 'xl list -v 0 && echo && xl info && echo && cat /proc/uptime';
/** Written by dom0 alone. Not there as long as no domain has a device. */
export const BACKENDS = 'xenstore-ls -f /local/domain/0/backend 2>/dev/null || :';
/** Written by guests: of each the first 16 KiB are taken. */
export const ATTRIBUTES =
  'for d in $(xenstore-list /local/domain 2>/dev/null); do case $d in *[!0-9]*|"") ;; ' +
  '*) xenstore-ls -f "/local/domain/$d/attr" 2>/dev/null | head -c 16384; echo ;; esac; done';
/** Exact counters of the devices that dom0's kernel serves, by domain. Other backends have none. */
export const COUNTERS =
  "grep -sH '' /sys/bus/xen-backend/devices/vbd-*/statistics/* " +
  '/sys/bus/xen-backend/devices/vif-*/net/*/statistics/?x_bytes || :';
/**
 * Says a line when any domain comes, goes or stops; once for each kind at the beginning. The watch takes the shell's place;
 * the end of our line ends it, since it would not notice by itself.
 */
export const WATCH =
  'PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; exec 3<&0; ' +
  '{ cat <&3; kill $$; } >/dev/null 2>&1 & ' +
  'exec xenstore-watch @introduceDomain @releaseDomain </dev/null 3<&-';

export const DOMAIN_VERBS = {
  stop: 'destroy',
  shutdown: 'shutdown',
  reboot: 'reboot',
  pause: 'pause',
  resume: 'unpause',
} as const;
export type DomainVerb = keyof typeof DOMAIN_VERBS;

export function domainCommand(verb: DomainVerb, domid: number): string {
  if (!Number.isSafeInteger(domid) || domid <= 0) throw new RangeError(`${domid} is no domain's number`);
  return `xl ${DOMAIN_VERBS[verb]} ${domid}`;
}
