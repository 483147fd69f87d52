/** `cost`: what VMs cost, from a rate card and usage facts or from a ledger. */
import { type Options, usageError } from '../command-line.ts';
import type { Verb, VerbContext } from '../verb.ts';
import { closeMonth, rateMonths } from './cost/booking.ts';
import { manageCard, manageLedger, showStatus } from './cost/daemon.ts';
import { exportFocus, validateFocus } from './cost/exporting.ts';
import { ingestSamples } from './cost/ingest.ts';
import { writePage } from './cost/page.ts';
import { checkCard, compareCards, explainCost, forecastCost, reportCost, watchBudgets } from './cost/reporting.ts';

type Action = (context: VerbContext, options: Options, words: readonly string[]) => Promise<number>;

const ACTIONS: Readonly<Record<string, Action>> = {
  check: checkCard,
  report: reportCost,
  explain: explainCost,
  forecast: forecastCost,
  compare: compareCards,
  budgets: watchBudgets,
  rate: rateMonths,
  close: closeMonth,
  export: exportFocus,
  validate: validateFocus,
  html: writePage,
  ingest: ingestSamples,
  card: manageCard,
  ledger: manageLedger,
  status: showStatus,
};

export const cost: Verb = {
  shape: {
    usage: `${Object.keys(ACTIONS).join('|')} [OPTIONS]`,
    about:
      'What VMs cost: those of the fleet, or of a usage file or ledger, which need no daemon.\n\n' +
      '  check      list all problems of a rate card\n' +
      '  report     costs by project, owner, source, host, vm, day, month, item or category\n' +
      '  explain    every line with its arithmetic\n' +
      '  forecast   what the month will cost when everything goes on as it is\n' +
      '  compare    the same use under another rate card\n' +
      '  budgets    spending against the card’s budgets; --notify tells who is to be told\n' +
      '  rate       record a month’s charges in a ledger; of a closed month, corrections\n' +
      '  close      close a month of a ledger\n' +
      '  export     a FOCUS file of a month, with its schema beside it\n' +
      '  validate   check a FOCUS file (CSV); exit code 1 when it breaks a rule\n' +
      '  html       a month as one file with charts\n' +
      '  ingest     put the counters of a usage file into a sample store\n' +
      '  card       set FILE, show, rm: the card by which the daemon itself rates, every hour\n' +
      '  ledger     set FILE, rm: the daemon’s ledger; FILE holds a PostgreSQL address\n' +
      '  status     what the daemon has rated\n\n' +
      'Without --card, --usage and --ledger everything is about the daemon’s own card, history and ledger.',
    flags: [
      { flags: '--card <FILE>', about: 'the rate card (YAML)' },
      { flags: '--usage <FILE>', about: 'usage facts (JSON lines) instead of the fleet’s history' },
      { flags: '--samples <FOLDER>', about: 'a sample store: counters are read from it instead of the usage file' },
      { flags: '--ledger <PLACE>', about: 'a ledger: a file, or postgres://USER@HOST/DATABASE' },
      { flags: '--month <YYYY-MM>', about: 'the month, UTC; may be given again', many: true },
      { flags: '--by <NAMES>', about: 'report, forecast, compare: what to add up by, with commas; usually project' },
      { flags: '--zone <NAME>', about: 'whose days are meant, for example Europe/Berlin; usually UTC' },
      { flags: '--vm <NAME>', about: 'only VMs of this name, * for any characters', many: true },
      { flags: '--project <NAME>', about: 'only this project', many: true },
      { flags: '--owner <NAME>', about: 'only this owner', many: true },
      { flags: '--source <NAME>', about: 'only this source', many: true },
      { flags: '--host <NAME>', about: 'only this host', many: true },
      { flags: '--explain', about: 'report: every line with its arithmetic' },
      { flags: '--at <TIME>', about: 'forecast, budgets: what is known then, UTC; usually the end of what is known' },
      { flags: '--with <FILE>', about: 'compare: the other rate card' },
      { flags: '--exchange <DECIMAL>', about: 'compare: one unit of the other card’s currency in this one’s' },
      { flags: '--scope <NAME>', about: 'rate: whose charges these are, when several collectors share a ledger' },
      { flags: '--book-into <YYYY-MM>', about: 'rate: the month corrections appear in; usually this one' },
      { flags: '--notify <FILE>', about: 'budgets: deliver alerts, and remember in FILE which were' },
      { flags: '--focus <VERSION>', about: 'export, validate: 1.2, 1.3 or 1.4; usually 1.2' },
      { flags: '--as <FORM>', about: 'export: csv, json or parquet' },
      { flags: '--out <FILE>', about: 'export, html: where to' },
      { flags: '--issuer <NAME>', about: 'export: who charges' },
      { flags: '--account <NAME>', about: 'export: the billing account' },
      { flags: '--file <FILE>', about: 'validate: the file' },
      { flags: '--model <FILE>', about: 'validate: a published rule model (JSON) instead of berth’s own rules' },
      { flags: '--criteria <NAMES>', about: 'validate: the capabilities that apply, with commas' },
      { flags: '--json', about: 'as JSON' },
      { flags: '--csv', about: 'as comma-separated values' },
    ],
    least: 1,
    most: 3,
    examples: [
      'berth cost card set house.yaml',
      'berth cost report --by project,vm',
      'berth cost export --month 2026-11 --focus 1.3 --out 2026-11.csv',
      'berth cost report --card house.yaml --month 2026-11 --by project,owner',
      'berth cost report --card house.yaml --usage usage.jsonl --month 2026-11 --by vm',
      'berth cost explain --card house.yaml --usage usage.jsonl --month 2026-11 --vm web',
      'berth cost rate --card house.yaml --usage usage.jsonl --month 2026-11 --ledger house.db',
      'berth cost report --ledger house.db --month 2026-11 --by day --zone Europe/Berlin',
    ],
  },
  run: (context, options, [action = '', ...words]) => {
    const chosen = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
    if (chosen === undefined) throw usageError(`unknown command: berth cost ${action}`, 'see "berth cost --help"');
    if (words.length > 0 && action !== 'card' && action !== 'ledger')
      throw usageError(`berth cost ${action} takes no "${words[0]}"`, 'see "berth cost --help"');
    return chosen(context, options, words);
  },
};
