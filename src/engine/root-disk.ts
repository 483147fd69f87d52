/**
 * The root disk: a VM's layers one after another on one read-only virtual disk, without copying a byte.
 *
 * QEMU's VMDK driver can show several flat files as one disk. The descriptor is written by berth, holds only paths of
 * berth's own layer store, and is opened with an explicit driver; no VMDK from outside ever comes this way.
 *
 * @source VMware Virtual Disk Format 1.1, "The Descriptor File"; QEMU block/vmdk.c (`RW` is the only access it takes).
 */
import type { LayerFile } from './model.ts';

const SECTOR_BYTES = 512;

export interface Extent {
  readonly firstSector: number;
  readonly sectors: number;
}

export interface RootDisk {
  readonly descriptor: string;
  /** One per layer, in the order given (lowest first). */
  readonly extents: readonly Extent[];
}

/** The descriptor and each layer's place on the disk. An image without layers has no root disk: the list is empty. */
export function layOutRootDisk(layers: readonly LayerFile[]): RootDisk {
  const extents: Extent[] = [];
  const lines: string[] = [];
  let next = 0;
  for (const layer of layers) {
    const sectors = Math.ceil(layer.sizeBytes / SECTOR_BYTES);
    extents.push({ firstSector: next, sectors });
    lines.push(`RW ${sectors} FLAT "${layer.path}" 0`);
    next += sectors;
  }
  const descriptor = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    'createType="twoGbMaxExtentFlat"',
    '',
    '# Extent description',
    ...lines,
    '',
    '# The Disk Data Base',
    '#DDB',
    'ddb.virtualHWVersion = "4"',
    `ddb.geometry.cylinders = "${Math.max(1, Math.ceil(next / (16 * 63)))}"`,
    'ddb.geometry.heads = "16"',
    'ddb.geometry.sectors = "63"',
    'ddb.adapterType = "ide"',
    '',
  ].join('\n');
  return { descriptor, extents };
}
