import type { Verb } from '../verb.ts';
export const doctor: Verb = { shape: { usage: '', about: '', flags: [] }, run: async () => 0 };
