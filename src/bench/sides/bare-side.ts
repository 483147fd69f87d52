import type { Participant } from '../interleave.ts';
import type { SideId } from './side-names.ts';

/** QEMU without any engine. One measurement is one QEMU: spawned, heard, ended. */
export interface BareSide extends Participant {
  readonly id: SideId;
  readonly title: string;
  readonly isVm: true;
  readonly facts: readonly string[];
  close(): Promise<void>;
}
