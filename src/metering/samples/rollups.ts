/**
 * What samples come to: the increase of each series in each UTC hour, kept up with every sample, so that a report reads
 * sums and no samples. Pure, no clock.
 *
 * A series only goes forward: a sample that is not newer than the last of its series is one that was counted before
 * (a collector repeats what it is not sure of) and changes nothing.
 */
import { HOUR_MS } from '../usage/time-cuts.ts';
import type { SampleColumns } from './sample-block.ts';

/** Increases by series; a number holds them exactly up to 2^53, 9 PB or 104 days of a processor in an hour. */
type HourCells = Float64Array;

export interface RollupCells {
  readonly hour: number;
  readonly increase: HourCells;
}

export class Rollups {
  /** Hour number → increase by series, since the last `clear`. */
  #cells = new Map<number, HourCells>();
  #lastMs = new Float64Array(1024);
  #lastValue = new BigUint64Array(1024);
  #newestHour = -1;
  #newestCells: HourCells = new Float64Array(0);
  /** Samples that were not newer than the last of their series. */
  repeated = 0;
  /** Increases that cannot be. */
  absurd = 0;

  /**
   * A counter that fell began anew: what it shows has been used since. What was counted between two samples in different
   * hours is split by time, in whole units.
   * An increase beyond 2^53 is no use of anything and counts nothing.
   */
  add({ series, atMs, value }: SampleColumns): void {
    for (let index = 0; index < series.length; index += 1) {
      const one = series[index] ?? 0;
      const now = atMs[index] ?? 0;
      const reading = value[index] ?? 0n;
      if (one >= this.#lastMs.length) this.#grow(one);
      const before = this.#lastMs[one] ?? 0;
      if (now <= before) {
        this.repeated += 1;
        continue;
      }
      const last = this.#lastValue[one] ?? 0n;
      this.#lastMs[one] = now;
      this.#lastValue[one] = reading;
      if (before === 0) continue;
      const risen = Number(reading >= last ? reading - last : reading);
      if (risen === 0) continue;
      if (risen > Number.MAX_SAFE_INTEGER) {
        this.absurd += 1;
        continue;
      }
      const [from, to] = [Math.floor(before / HOUR_MS), Math.floor(now / HOUR_MS)];
      if (from === to) this.#count(from, one, risen);
      else this.#spread(one, risen, { before, now });
    }
  }

  /** Everything counted since the last `clear`, by hour. */
  cells(): readonly RollupCells[] {
    return [...this.#cells].map(([hour, increase]) => ({ hour, increase }));
  }

  /** Begins anew; last readings stay. */
  clear(): void {
    this.#cells = new Map();
    [this.#newestHour, this.#newestCells] = [-1, new Float64Array(0)];
  }

  /** The last reading of every series, to go on from after a restart. */
  readings(): { readonly atMs: Float64Array; readonly value: BigUint64Array } {
    return { atMs: this.#lastMs.slice(), value: this.#lastValue.slice() };
  }

  restore(readings: { readonly atMs: Float64Array; readonly value: BigUint64Array }): void {
    this.#lastMs = readings.atMs.slice();
    this.#lastValue = readings.value.slice();
  }

  #count(hour: number, series: number, amount: number): void {
    if (hour !== this.#newestHour) {
      this.#newestCells = this.#cells.get(hour) ?? new Float64Array(this.#lastMs.length);
      this.#newestHour = hour;
      this.#cells.set(hour, this.#newestCells);
    }
    if (series >= this.#newestCells.length) {
      const larger = new Float64Array(this.#lastMs.length);
      larger.set(this.#newestCells);
      this.#newestCells = larger;
      this.#cells.set(hour, larger);
    }
    this.#newestCells[series] = (this.#newestCells[series] ?? 0) + amount;
  }

  #spread(series: number, risen: number, { before, now }: { readonly before: number; readonly now: number }): void {
    const [amount, length] = [BigInt(risen), BigInt(Math.round(now - before))];
    let given = 0n;
    for (let hour = Math.floor(before / HOUR_MS); hour <= Math.floor(now / HOUR_MS); hour += 1) {
      const endMs = Math.min((hour + 1) * HOUR_MS, now);
      const until = endMs === now ? amount : (amount * BigInt(Math.round(endMs - before))) / length;
      this.#count(hour, series, Number(until - given));
      given = until;
    }
  }

  #grow(series: number): void {
    const size = Math.max(series + 1, this.#lastMs.length * 2);
    const [ms, value] = [new Float64Array(size), new BigUint64Array(size)];
    ms.set(this.#lastMs);
    value.set(this.#lastValue);
    [this.#lastMs, this.#lastValue] = [ms, value];
  }
}

/** Adds up increases without losing a unit: in numbers while they are exact, beyond that in integers of any size. */
export class IncreaseTotal {
  #exact: Float64Array<ArrayBuffer>;
  readonly #beyond: Map<number, bigint>;

  constructor(exact: Float64Array = new Float64Array(0), beyond: ReadonlyMap<number, bigint> = new Map()) {
    this.#exact = new Float64Array(exact);
    this.#beyond = new Map(beyond);
  }

  add(increase: Float64Array): void {
    if (increase.length > this.#exact.length) {
      const larger = new Float64Array(increase.length);
      larger.set(this.#exact);
      this.#exact = larger;
    }
    const exact = this.#exact;
    for (let index = 0; index < increase.length; index += 1) {
      const sum = (exact[index] ?? 0) + (increase[index] ?? 0);
      if (sum <= Number.MAX_SAFE_INTEGER) exact[index] = sum;
      else {
        this.#beyond.set(index, (this.#beyond.get(index) ?? 0n) + BigInt(exact[index] ?? 0));
        exact[index] = increase[index] ?? 0;
      }
    }
  }

  copy(): IncreaseTotal {
    return new IncreaseTotal(this.#exact, this.#beyond);
  }

  ofSeries(count: number): bigint[] {
    return Array.from(
      { length: count },
      (_, index) => BigInt(this.#exact[index] ?? 0) + (this.#beyond.get(index) ?? 0n),
    );
  }
}
