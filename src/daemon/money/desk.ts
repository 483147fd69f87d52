/**
 * Money as the daemon has it: when to rate, and whom to ask. Nothing is rated without a rate card, and none of the code that
 * reckons is in this process.
 *
 *     no card ─set─▶ rated at once ─▶ rated every hour …
 */
import * as v from 'valibot';
import {
  CardFactsSchema,
  ClosedSchema,
  CostChargesSchema,
  CostReportSchema,
  type CostSummary,
  CostSummarySchema,
  type MoneyPort,
  RatedSchema,
} from '#api';
import { BerthError, type ErrorKind, messageOf } from '#base';
import type { OwnerRules } from '#fleet';
import { files, nowMs, runProcess, startTimer, type Timer } from '#platform';
import { AttributionSchema, digestOf, type KnownRules, keepOwnerRules, readOwnerRules } from './owner-rules.ts';
import { type MoneyPlaces, moneyPlaces } from './places.ts';
import { type CostQuestion, type MoneyTask, ProblemSchema } from './request.ts';

const RATE_EVERY_MS = 3_600_000;
/** After a start, when its sources have been looked at; and after a rating that failed. */
const RATE_SOON_MS = 60_000;
/** A month of 2,000 VMs takes some seconds on a free processor. */
const DEADLINE_MS = 30 * 60_000;
/** A page, or a report by VM and day of a large estate. */
const MOST_ANSWER_BYTES = 256 * 1024 * 1024;
/** What a reckoning needs of the daemon's environment: PostgreSQL's files and variables, and nothing else. */
const PASSED_ON = ['PATH', 'HOME', 'PGPASSWORD', 'PGPASSFILE', 'PGSSLMODE', 'PGSSLROOTCERT'];

export interface MoneyParts {
  readonly folder: string;
  readonly fleet: string;
  /** The program of main.ts. */
  readonly program: string;
  readonly scope: string;
  readonly log: (line: string) => void;
  /** Told whenever other rules about owners come into force; undefined: there are none. */
  readonly onOwnerRules: (rules: OwnerRules | undefined) => void;
}

const NeededSchema = v.object({ needed: v.array(v.string()) });
/** What a check of a card says: to people, and to the fleet. */
const CheckedSchema = v.object({ ...CardFactsSchema.entries, attribution: AttributionSchema });
type Checked = v.InferOutput<typeof CheckedSchema>;

export class MoneyDesk implements MoneyPort {
  readonly #parts: MoneyParts;
  readonly #places: MoneyPlaces;
  readonly #leaving = new AbortController();
  #turn: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #summary: CostSummary | undefined;
  #problem: string | undefined;
  #ownerRules: KnownRules | undefined;

  private constructor(parts: MoneyParts) {
    this.#parts = parts;
    this.#places = moneyPlaces(parts.folder);
  }

  static async open(parts: MoneyParts): Promise<MoneyDesk> {
    const desk = new MoneyDesk(parts);
    desk.#ownerRules = await readOwnerRules(desk.#places);
    parts.onOwnerRules(desk.#ownerRules?.rules);
    if (!(await desk.#hasCard())) return desk;
    await desk.#readSummary();
    desk.#rateIn(RATE_SOON_MS);
    if (desk.#ownerRules === undefined)
      void desk.#followCard().catch((error: unknown) => parts.log(`cost: owners are not known: ${messageOf(error)}`));
    return desk;
  }

  async close(): Promise<void> {
    this.#leaving.abort();
    this.#timer?.cancel();
    await this.#turn;
  }

  get summary(): CostSummary | undefined {
    return this.#summary;
  }

  async status(): ReturnType<MoneyPort['status']> {
    return {
      hasCard: await this.#hasCard(),
      ledger: (await files.exists(this.#places.address)) ? 'postgres' : 'sqlite',
      ratedMs: this.#summary?.ratedMs ?? null,
      problem: this.#problem ?? null,
      summary: this.#summary ?? null,
    };
  }

  /** @throws card.invalid (invalid) with every problem: the card in force stays then. */
  async setCard(card: string): Promise<v.InferOutput<typeof CardFactsSchema>> {
    const checked = await this.#ask({ do: 'check', card }, CheckedSchema);
    await this.#makeFolder();
    await files.writeFileAtomic(this.#places.card, card);
    await this.#takeOwnerRules(card, checked);
    this.#rateIn(0);
    const { attribution: _rules, ...facts } = checked;
    return facts;
  }

  /** @throws cost.no_card (not_found) */
  async card(): Promise<{ readonly card: string }> {
    const card = await files.readTextIfExists(this.#places.card);
    if (card !== undefined) return { card };
    throw new BerthError('not_found', 'cost.no_card', 'this daemon has no rate card', {
      hint: 'give it one: berth cost card set FILE',
    });
  }

  /** Nothing more is rated; what the ledger holds stays. */
  async removeCard(): Promise<void> {
    this.#timer?.cancel();
    await files.rm(this.#places.card, { force: true });
    await files.rm(this.#places.summary, { force: true });
    await files.rm(this.#places.owners, { force: true });
    this.#summary = undefined;
    this.#ownerRules = undefined;
    this.#parts.onOwnerRules(undefined);
  }

  /** @param address - of a PostgreSQL database; undefined: the daemon's own file. @throws cost.address (invalid) */
  async setLedger(address: string | undefined): Promise<void> {
    if (address === undefined) return await files.rm(this.#places.address, { force: true });
    if (!/^postgres(ql)?:\/\/\S+$/.test(address.trim()))
      throw new BerthError('invalid', 'cost.address', 'that is no address of a PostgreSQL database', {
        hint: 'the file must hold one line: postgres://USER:PASSWORD@HOST/DATABASE',
      });
    await this.#makeFolder();
    await files.writeFileAtomic(this.#places.address, `${address.trim()}\n`, 0o600);
  }

  async rate(months: readonly string[] = []): Promise<v.InferOutput<typeof RatedSchema>> {
    const rated = await this.#ask({ do: 'rate', months: [...months] }, RatedSchema);
    this.#problem = undefined;
    await this.#readSummary();
    await this.#followCard();
    for (const budget of rated.told) this.#parts.log(`cost: told about budget ${budget}`);
    for (const one of rated.untold) this.#parts.log(`cost: nobody could be told about budget ${one}`);
    return rated;
  }

  closeMonth(month: string): Promise<v.InferOutput<typeof ClosedSchema>> {
    return this.#ask({ do: 'close', month }, ClosedSchema);
  }

  report(question: CostQuestion): Promise<v.InferOutput<typeof CostReportSchema>> {
    return this.#ask({ do: 'report', question }, CostReportSchema);
  }

  charges(months: readonly string[]): Promise<v.InferOutput<typeof CostChargesSchema>> {
    return this.#ask({ do: 'charges', months: [...months] }, CostChargesSchema);
  }

  async page(month: string, zone: string): Promise<string> {
    return (await this.#ask({ do: 'page', month, zone }, v.object({ html: v.string() }))).html;
  }

  /** A card that was put there by hand counts from its first rating on, for owners as for prices. */
  async #followCard(): Promise<void> {
    const card = await files.readTextIfExists(this.#places.card);
    if (card === undefined || this.#ownerRules?.cardDigest === digestOf(card)) return;
    const checked = await this.#ask({ do: 'check', card }, CheckedSchema);
    // Another one may have been put in its place, or it was removed.
    if ((await files.readTextIfExists(this.#places.card)) === card) await this.#takeOwnerRules(card, checked);
  }

  async #takeOwnerRules(card: string, { attribution }: Checked): Promise<void> {
    this.#ownerRules = await keepOwnerRules(this.#places, digestOf(card), attribution);
    this.#parts.onOwnerRules(this.#ownerRules.rules);
  }

  /** Of these months those in a bill that is not closed. Without a ledger there is none. */
  async neededMonths(months: readonly string[]): Promise<readonly string[]> {
    const { ledger, address } = this.#places;
    if (!(await files.exists(ledger)) && !(await files.exists(address))) return [];
    return (await this.#ask({ do: 'needed', months: [...months] }, NeededSchema)).needed;
  }

  async #hasCard(): Promise<boolean> {
    return await files.exists(this.#places.card);
  }

  async #makeFolder(): Promise<void> {
    await files.mkdir(this.#parts.folder, { recursive: true, mode: 0o700 });
  }

  #rateIn(ms: number): void {
    this.#timer?.cancel();
    if (this.#leaving.signal.aborted) return;
    this.#timer = startTimer(ms, () => {
      void this.#rateByItself();
    });
  }

  async #rateByItself(): Promise<void> {
    try {
      await this.rate();
      this.#rateIn(RATE_EVERY_MS);
    } catch (error) {
      if (this.#leaving.signal.aborted) return;
      const problem = messageOf(error);
      if (problem !== this.#problem) this.#parts.log(`cost: not rated: ${problem}`);
      this.#problem = problem;
      if (await this.#hasCard()) this.#rateIn(RATE_SOON_MS);
    }
  }

  async #readSummary(): Promise<void> {
    const text = await files.readTextIfExists(this.#places.summary);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), CostSummarySchema), text ?? '');
    this.#summary = parsed.success ? parsed.output : undefined;
  }

  /** One after the other: each may take a processor and a gigabyte. */
  #ask<Schema extends v.GenericSchema>(task: MoneyTask, schema: Schema): Promise<v.InferOutput<Schema>> {
    const mine = this.#turn.then(() => this.#run(task, schema));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #run<Schema extends v.GenericSchema>(task: MoneyTask, schema: Schema): Promise<v.InferOutput<Schema>> {
    const { folder, fleet, program, scope } = this.#parts;
    if (task.do === 'rate' || task.do === 'report') await this.#makeFolder();
    const env = Object.fromEntries(
      PASSED_ON.flatMap((name) => {
        const value = process.env[name];
        return value === undefined ? [] : [[name, value]];
      }),
    );
    const { stdout, stderr, exitCode } = await runProcess(
      [process.execPath, '--disable-warning=ExperimentalWarning', program],
      {
        input: JSON.stringify({ folder, fleet, scope, nowMs: nowMs(), task }),
        deadlineMs: DEADLINE_MS,
        maxOutputBytes: MOST_ANSWER_BYTES,
        env,
        signal: this.#leaving.signal,
      },
    );
    const told = v.safeParse(
      v.pipe(v.string(), v.parseJson(), v.union([v.object({ answer: schema }), v.object({ problem: ProblemSchema })])),
      stdout,
    );
    if (!told.success)
      throw new BerthError('bug', 'cost.failed', `the reckoning ended with ${exitCode} and gave no answer`, {
        facts: { words: stderr.slice(-500) },
      });
    const output = told.output as { answer: v.InferOutput<Schema> } | { problem: v.InferOutput<typeof ProblemSchema> };
    if ('answer' in output) return output.answer;
    const { kind, code, message, hint } = output.problem;
    throw new BerthError(kind as ErrorKind, code, message, hint === undefined ? {} : { hint });
  }
}
