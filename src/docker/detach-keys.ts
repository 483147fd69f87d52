import { BerthError } from '#base';

/** `ctrl-p,ctrl-q` → bytes. @throws detach_keys.malformed (invalid) */
export function parseDetachKeys(text: string): number[] {
  return text.split(',').map((key) => {
    if (key.length === 1) return key.charCodeAt(0);
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)?.[1];
    if (control === undefined) {
      throw new BerthError(
        'invalid',
        'detach_keys.malformed',
        `Unknown character: '${key}' in the detach keys ${text}`,
      );
    }
    return control.toUpperCase().charCodeAt(0) - 64;
  });
}

/** Watches what a terminal sends for the keys that mean "leave it running". Pure; a cut sequence carries over. */
export class DetachWatcher {
  readonly #keys: readonly number[];
  #matched = 0;

  constructor(keys: readonly number[]) {
    this.#keys = keys;
  }

  /** The bytes to pass on, and whether the keys were complete: what follows them is dropped. */
  feed(data: Buffer): { readonly pass: Buffer; readonly detached: boolean } {
    const passed: number[] = [];
    for (const byte of data) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched += 1;
        if (this.#matched === this.#keys.length) return { pass: Buffer.from(passed), detached: true };
        continue;
      }
      passed.push(...this.#keys.slice(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) passed.push(byte);
    }
    return { pass: Buffer.from(passed), detached: false };
  }
}
