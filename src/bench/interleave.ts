/** Several sides measured in turn, so that whatever slows the machine down for a while slows all of them. */

export interface Participant {
  readonly side: string;
  /** One measurement, checked. @throws when the check fails: then there is no value. */
  once(): Promise<number>;
}

/** Who goes when: forward, then backward (A B C, C B A, …), so that no side is always the one after another. Pure. */
export function abbaOrder(sides: number, round: number): readonly number[] {
  const forward = Array.from({ length: sides }, (_, index) => index);
  return Math.abs(round % 2) === 0 ? forward : forward.reverse();
}

export interface InterleaveOptions {
  readonly rounds: number;
  /** Rounds before, that fill caches and are not counted. */
  readonly warmUps: number;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/** Values by side, in the order they were measured. */
export async function interleave(
  participants: readonly Participant[],
  options: InterleaveOptions,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const values = new Map<string, number[]>(participants.map(({ side }) => [side, []]));
  for (let round = -options.warmUps; round < options.rounds; round += 1) {
    for (const index of abbaOrder(participants.length, round)) {
      options.signal.throwIfAborted();
      const participant = participants[index];
      if (participant === undefined) continue;
      const value = await participant.once();
      if (round >= 0) values.get(participant.side)?.push(value);
    }
    const which = round < 0 ? 'warming up' : `round ${round + 1} of ${options.rounds}`;
    options.onProgress(which);
  }
  return values;
}
