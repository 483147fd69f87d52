/** QEMU that boots its kernel: from the spawn of the program to the first byte of the guest's process. */
import type { BenchRun } from '../bench-run.ts';
import { checkKernel } from '../kernel-check.ts';
import { type BareMachine, firstLineOf } from './bare-machine.ts';
import type { BareSide } from './bare-side.ts';
import { SIDE_TITLES } from './side-names.ts';

export function bareCold(run: BenchRun, machine: BareMachine): BareSide {
  const title = SIDE_TITLES.bare;
  return {
    id: 'bare',
    title,
    side: title,
    isVm: true,
    facts: [`QEMU ${machine.qemuVersion}`],
    once: async () => {
      const qemu = await machine.spawn((argv) => argv);
      try {
        const { line, atMs } = await firstLineOf(qemu, { rejoin: false });
        checkKernel({ side: title, isVm: true, printed: line, hostKernel: run.hostKernel });
        return atMs - qemu.spawnedAtMs;
      } finally {
        await qemu.end();
      }
    },
    close: async () => {},
  };
}
