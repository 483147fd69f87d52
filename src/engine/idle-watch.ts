/**
 * Puts VMs to sleep that asked for it and have done nothing for as long as they said.
 *
 * Idle is: next to no processor time, no packet sent by the guest, no command of `exec`, nothing asked of it over the API,
 * and, asked last because the question wakes the guest, no open TCP connection.
 */
import { messageOf } from '#base';
import { files, monotonicMs, processInfo, startTimer, type Timer } from '#platform';
import type { Vm } from './vm.ts';

/** Between two looks at all VMs. */
const LOOK_MS = 1_000;
/** Of one processor: an idle guest uses a twentieth of this under emulation. */
const IDLE_SHARE = 0.03;
/** Clock ticks of /proc per second. */
const TICKS_PER_SECOND = 100;

interface Look {
  readonly atMs: number;
  readonly cpuTicks: number;
  readonly packets: string;
  readonly run: number;
  idleSinceMs: number;
}

export class IdleWatch {
  readonly #vms: () => Iterable<Vm>;
  readonly #log: (line: string) => void;
  readonly #looks = new Map<string, Look>();
  #timer: Timer | undefined;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(vms: () => Iterable<Vm>, log: (line: string) => void) {
    this.#vms = vms;
    this.#log = log;
    this.#wait();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#looking;
  }

  #wait(): void {
    if (this.#closed) return;
    this.#timer = startTimer(LOOK_MS, () => {
      this.#looking = this.#lookAtAll().finally(() => this.#wait());
    });
  }

  async #lookAtAll(): Promise<void> {
    const seen = new Set<string>();
    for (const vm of this.#vms()) {
      const { spec, state, id } = vm.record;
      if (spec.sleepAfterSeconds <= 0 || state.name !== 'running') continue;
      seen.add(id);
      try {
        await this.#lookAt(vm);
      } catch (error) {
        this.#log(`VM ${vm.record.name}: it is not put to sleep: ${messageOf(error)}`);
        this.#looks.delete(id);
      }
    }
    for (const id of this.#looks.keys()) if (!seen.has(id)) this.#looks.delete(id);
  }

  async #lookAt(vm: Vm): Promise<void> {
    const { id, machine, network, spec, run } = vm.record;
    const info = machine === undefined ? undefined : await processInfo(machine.pid);
    if (info === undefined) return;
    const statistics = `/sys/class/net/${network?.tap ?? ''}/statistics/rx_packets`;
    const packets = network === undefined ? '' : ((await files.readTextIfExists(statistics)) ?? '');
    const now = monotonicMs();
    const before = this.#looks.get(id);
    const look: Look = { atMs: now, cpuTicks: info.cpuTicks, packets, run, idleSinceMs: now };
    this.#looks.set(id, look);
    if (before === undefined || before.run !== run || before.packets !== packets || vm.isBusy) return;
    const share = (info.cpuTicks - before.cpuTicks) / ((TICKS_PER_SECOND * (now - before.atMs)) / 1000);
    if (share > IDLE_SHARE) return;
    look.idleSinceMs = Math.max(before.idleSinceMs, vm.touchedAtMs);
    if (now - look.idleSinceMs < spec.sleepAfterSeconds * 1000) return;
    const { tcpConnections } = await vm.link().memory();
    if (tcpConnections > 0 || vm.isBusy || vm.touchedAtMs > look.idleSinceMs) {
      look.idleSinceMs = now;
      return;
    }
    await vm.sleep();
  }
}
