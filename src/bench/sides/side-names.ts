/** The sides that can be measured, as a person names them on the command line and as reports do. */

export const SIDE_TITLES = {
  berth: 'berth',
  cold: 'berth, cold boot',
  dockerd: 'dockerd + runc',
  podman: 'podman',
  bare: 'bare QEMU, cold',
  template: 'bare QEMU, template',
} as const;

export type SideId = keyof typeof SIDE_TITLES;

export const SIDE_IDS = Object.keys(SIDE_TITLES) as readonly SideId[];
