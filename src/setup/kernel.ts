/**
 * The guest kernel: Debian's cloud kernel, taken out of its package. Nothing is installed on the host.
 *
 * The package holds a compressed bzImage. Uncompressed and started through PVH it boots about 0.2 s sooner under TCG,
 * so the ELF image inside is unpacked; a compression we do not know leaves the bzImage, which QEMU starts as well.
 *
 * @source Linux Documentation/arch/x86/boot.rst: setup_sects 0x1f1, payload_offset 0x248, payload_length 0x24c.
 */
import { BerthError, messageOf } from '#base';
import { files, runChecked } from '#platform';

const META_PACKAGE = 'linux-image-cloud-amd64';
const LZ4_LEGACY_MAGIC = 0x184c2102;

/** The ELF payload's place inside a bzImage, or undefined when this is not a bzImage. Pure. */
export function payloadOf(image: Buffer): { readonly offset: number; readonly length: number } | undefined {
  if (image.length < 0x250 || image.toString('latin1', 0x202, 0x206) !== 'HdrS') return undefined;
  const setupSectors = image[0x1f1] || 4;
  const offset = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const length = image.readUInt32LE(0x24c);
  return offset + length <= image.length ? { offset, length } : undefined;
}

/**
 * Makes `folder` with vmlinux, release and modules/, whole or not at all.
 *
 * @throws setup.kernel (unavailable)
 */
export async function fetchKernel(folder: string): Promise<void> {
  const aside = files.asideName(folder);
  try {
    await files.mkdir(aside, { recursive: true });
    await runChecked(['apt-get', 'download', '-q', await kernelPackage()], { cwd: aside, deadlineMs: 10 * 60_000 });
    const [archive] = (await files.readdir(aside)).filter((name) => name.endsWith('.deb'));
    if (archive === undefined)
      throw new BerthError('unavailable', 'setup.kernel', 'apt-get downloaded no kernel package');
    await runChecked(['dpkg-deb', '-x', `${aside}/${archive}`, `${aside}/package`]);
    const [release] = await files.readdir(`${aside}/package/lib/modules`);
    if (release === undefined)
      throw new BerthError('unavailable', 'setup.kernel', `${archive} holds no kernel modules`);
    await unpackImage(`${aside}/package/boot/vmlinuz-${release}`, `${aside}/vmlinux`);
    await files.rename(`${aside}/package/lib/modules/${release}`, `${aside}/modules`);
    await files.writeFileAtomic(`${aside}/release`, `${release}\n`, 0o644);
    await files.rm(`${aside}/package`, { recursive: true });
    await files.rm(`${aside}/${archive}`);
    await files.rm(folder, { recursive: true, force: true });
    await files.rename(aside, folder);
  } catch (error) {
    await files.rm(aside, { recursive: true, force: true });
    throw new BerthError('unavailable', 'setup.kernel', `the guest kernel could not be fetched: ${messageOf(error)}`, {
      hint: `check that "apt-get download ${META_PACKAGE}" works; run "apt-get update" as root when its lists are old`,
      cause: error,
    });
  }
}

/** The package behind the meta package: the newest kernel of this Debian. */
async function kernelPackage(): Promise<string> {
  const { stdout } = await runChecked(['apt-cache', 'depends', '--important', META_PACKAGE]);
  const name = /Depends:\s+(linux-image-\S+)/.exec(stdout)?.[1];
  if (name === undefined) throw new BerthError('unavailable', 'setup.kernel', `apt knows no package ${META_PACKAGE}`);
  return name;
}

async function unpackImage(bzImage: string, target: string): Promise<void> {
  const image = await files.readFile(bzImage);
  const payload = payloadOf(image);
  if (payload === undefined || image.readUInt32LE(payload.offset) !== LZ4_LEGACY_MAGIC) {
    await files.rename(bzImage, target);
    return;
  }
  // The last four bytes are the unpacked size, appended by the kernel's build; lz4 would take them for a block.
  const packed = image.subarray(payload.offset, payload.offset + payload.length - 4);
  await files.writeFileAtomic(`${target}.lz4`, packed);
  await runChecked(['lz4', '-d', '-q', '-f', `${target}.lz4`, target]);
  await files.rm(`${target}.lz4`);
  // Readable by whoever runs berth from this checkout.
  await files.chmod(target, 0o644);
}
