/** From the text of a rate card file to a `RateCard`, or to everything that is wrong with it. Pure. */
import { BerthError } from '#base';
import { ROUNDING_MODES } from '../exact.ts';
import { WINDOWS } from '../usage/time-cuts.ts';
import { type RateCard, type Rounding, SHARINGS, type Sharing, type Tax } from './card.ts';
import { checkValidities, checkVersion } from './check-card.ts';
import { minorDecimalsOf } from './currencies.ts';
import { readAttribution, readBudget } from './read-people.ts';
import { readFixed, readItem } from './read-prices.ts';
import { readSelector } from './read-selector.ts';
import { readValidity } from './read-validity.ts';
import type { MonthLength } from './units.ts';
import { type CardProblem, type Fields, type Place, quote, YamlReader } from './yaml-reader.ts';

export type ParsedCard =
  | { readonly kind: 'card'; readonly card: RateCard }
  | { readonly kind: 'problems'; readonly problems: readonly CardProblem[] };

/** What a card says when it says nothing. 12 decimals of an hour are a nanosecond of it, and less than any price can show. */
const DEFAULT_ROUNDING: Rounding = { quantityDecimals: 12, mode: 'half-even' };
const MOST_QUANTITY_DECIMALS = 28;
/** Layout of the file this program reads. */
const FORMAT = '1';
const KEYS = [
  'rate-card',
  'format',
  'currency',
  'rounding',
  'charge-per',
  'month',
  'versions',
  'taxes',
  'attribution',
  'budgets',
];

export function parseRateCard(text: string): ParsedCard {
  const reader = new YamlReader(text);
  if (reader.root === null || reader.root === undefined) {
    if (reader.problems.length === 0) reader.problem(reader.root, 'the file is empty');
    return { kind: 'problems', problems: reader.problems };
  }
  const fields = reader.map(reader.root, 'the rate card', KEYS);
  const card = readCard(reader, fields);
  return reader.problems.length > 0 || card === undefined
    ? { kind: 'problems', problems: reader.problems }
    : { kind: 'card', card };
}

/** @throws card.invalid (invalid) with every problem in the message, one a line. */
export function loadRateCard(text: string, path: string): RateCard {
  const parsed = parseRateCard(text);
  if (parsed.kind === 'card') return parsed.card;
  const lines = parsed.problems.map(({ line, column, message }) => `${path}:${line}:${column}: ${message}`);
  const count = lines.length === 1 ? 'one problem' : `${lines.length} problems`;
  throw new BerthError('invalid', 'card.invalid', `rate card ${path} has ${count}\n${lines.join('\n')}`, {
    facts: { path, problems: lines.length },
    hint: 'correct these lines; docs/cost.md has a complete example',
  });
}

function readCard(reader: YamlReader, fields: Fields): RateCard | undefined {
  const need = (key: string): Place => {
    const place = fields.get(key);
    if (place === undefined) reader.problem(fields.place, `the rate card has no ${key}`);
    return place;
  };
  const format = need('format');
  const found = format === undefined ? undefined : reader.text(format, 'format');
  if (found !== undefined && found !== FORMAT)
    reader.problem(format, `format is ${quote(found)}; this berth reads format ${FORMAT}`);
  const namePlace = need('rate-card');
  const name = namePlace === undefined ? undefined : reader.text(namePlace, 'rate-card');
  const currencyPlace = need('currency');
  const currency = currencyPlace === undefined ? undefined : reader.text(currencyPlace, 'currency');
  const minorDecimals = currency === undefined ? undefined : minorDecimalsOf(currency);
  if (currency !== undefined && minorDecimals === undefined)
    reader.problem(
      currencyPlace,
      `currency is ${quote(currency)}; a national currency of ISO 4217 such as EUR is wanted`,
    );
  const rounding = readRounding(reader, fields.get('rounding'));
  const chargePer =
    fields.get('charge-per') === undefined ? 'day' : reader.choice(fields.get('charge-per'), 'charge-per', WINDOWS);
  const month = readMonth(reader, fields.get('month'));
  const versions = readVersions(reader, need('versions'));
  const taxes = reader.list(fields.get('taxes'), 'taxes').flatMap((place) => readTax(reader, place) ?? []);
  const attribution = reader
    .list(fields.get('attribution'), 'attribution')
    .flatMap((place) => readAttribution(reader, place) ?? []);
  const budgets = reader.list(fields.get('budgets'), 'budgets').flatMap((place) => readBudget(reader, place) ?? []);
  if (name === undefined || currency === undefined || minorDecimals === undefined || chargePer === undefined)
    return undefined;
  return { name, currency, minorDecimals, rounding, chargePer, month, versions, taxes, attribution, budgets };
}

function readRounding(reader: YamlReader, place: Place): Rounding {
  if (place === undefined) return DEFAULT_ROUNDING;
  const fields = reader.map(place, 'rounding', ['quantity-decimals', 'mode']);
  const [decimals, mode] = [fields.get('quantity-decimals'), fields.get('mode')];
  return {
    quantityDecimals:
      (decimals === undefined
        ? undefined
        : reader.wholeNumber(decimals, 'quantity-decimals', MOST_QUANTITY_DECIMALS)) ??
      DEFAULT_ROUNDING.quantityDecimals,
    mode: (mode === undefined ? undefined : reader.choice(mode, 'mode', ROUNDING_MODES)) ?? DEFAULT_ROUNDING.mode,
  };
}

function readMonth(reader: YamlReader, place: Place): MonthLength {
  const text = place === undefined ? undefined : reader.text(place, 'month');
  if (text === undefined || text === 'calendar') return 'calendar';
  const hours = /^(\d{1,4})h$/.exec(text)?.[1];
  if (hours !== undefined && Number(hours) > 0) return { hours: Number(hours) };
  reader.problem(place, `month is ${quote(text)}; it can be calendar or a number of hours such as 730h`);
  return 'calendar';
}

function readVersions(reader: YamlReader, place: Place): RateCard['versions'] {
  if (place === undefined) return [];
  const places = reader.list(place, 'versions');
  if (places.length === 0) reader.problem(place, 'versions is empty: there is nothing to charge by');
  const versions = places.map((one) => {
    const fields = reader.map(one, 'a version', ['version', 'effective', 'items', 'fixed', 'idle', 'overhead']);
    const version = reader.text(fields.get('version'), 'version') ?? '?';
    const effective = readValidity(reader, fields.get('effective'), `effective of version ${version}`);
    const items = reader.list(fields.get('items'), 'items').flatMap((item) => {
      const value = readItem(reader, item);
      return value === undefined ? [] : [{ place: item, value }];
    });
    const fixed = reader.list(fields.get('fixed'), 'fixed').flatMap((item) => {
      const value = readFixed(reader, item);
      return value === undefined ? [] : [{ place: item, value }];
    });
    checkVersion(reader, items, fixed);
    const value = {
      version,
      effective,
      items: items.map((item) => item.value),
      fixed: fixed.map((item) => item.value),
      idle: readSharing(reader, fields.get('idle'), 'idle'),
      overhead: readSharing(reader, fields.get('overhead'), 'overhead'),
    };
    return { place: one, value };
  });
  checkValidities(reader, versions);
  return versions.map(({ value }) => value).sort((a, b) => a.effective.fromMs - b.effective.fromMs);
}

function readSharing(reader: YamlReader, place: Place, what: string): Sharing {
  if (place === undefined) return 'none';
  const fields = reader.map(place, what, ['share']);
  return reader.choice(fields.get('share'), `share of ${what}`, SHARINGS) ?? 'none';
}

function readTax(reader: YamlReader, place: Place): Tax | undefined {
  const fields = reader.map(place, 'a tax', ['id', 'rate', 'effective', 'select']);
  const id = reader.text(fields.get('id'), 'id of a tax');
  const rate = reader.percent(fields.get('rate'), 'rate of a tax');
  const effective = readValidity(reader, fields.get('effective'), 'effective of a tax');
  const select = readSelector(reader, fields.get('select'));
  return id === undefined || rate === undefined ? undefined : { id, rate, effective, select };
}
