/** `berth cost export` and `validate`: FOCUS files out, and any FOCUS file checked. */
import { BerthError } from '#base';
import {
  BERTH_CRITERIA,
  berthModel,
  FOCUS_VERSIONS,
  type FocusVersion,
  focusCsv,
  focusJson,
  focusMetadata,
  focusParquet,
  focusTable,
  type ModelVerdict,
  type RuleVerdict,
  readCardText,
  readCsv,
  readModel,
  runModel,
} from '#metering';
import { files, nowMs } from '#platform';
import { type Options, usageError } from '../../command-line.ts';
import { FAILED } from '../../exit-codes.ts';
import type { VerbContext } from '../../verb.ts';
import { chargesOf, wanted } from './input.ts';

/** Layout and rounding of berth's exports; raised when the same charges would be written differently. */
const GENERATOR_VERSION = '2';

export async function exportFocus(context: VerbContext, options: Options): Promise<number> {
  const { out, note } = context;
  const version = versionOf(options);
  const path = wanted(options, 'out');
  const form = options.text('as') ?? 'csv';
  if (form !== 'csv' && form !== 'json' && form !== 'parquet')
    throw usageError(`cannot export as "${form}"`, 'there are csv, json and parquet');
  const { charges, notes } = await chargesOf(context, options);
  for (const one of notes) note(`berth: ${one}`);
  const account = options.text('account') ?? 'default';
  const issuer = { name: options.text('issuer') ?? 'berth', accountId: account, accountName: account };
  const table = focusTable(charges, issuer, version);
  const verdict = runModel(
    berthModel(version),
    { columns: table.columns.map(({ name }) => name), rows: table.rows },
    BERTH_CRITERIA,
  );
  if (!verdict.isConformant)
    throw new BerthError(
      'bug',
      'focus.not_conformant',
      `the export breaks rules of FOCUS ${version}: ${verdictText(verdict)}`,
    );
  const data = form === 'csv' ? focusCsv(table) : form === 'json' ? focusJson(table) : await focusParquet(table);
  const metadata = focusMetadata(table, version, { at: nowMs(), generatorVersion: GENERATOR_VERSION, account });
  await files.writeFileAtomic(`${path}.schema.json`, `${JSON.stringify(metadata, undefined, 2)}\n`, 0o644);
  await files.writeFileAtomic(path, data, 0o644);
  await out(`${table.rows.length} rows of FOCUS ${version} in ${path}, described in ${path}.schema.json\n`);
  return 0;
}

/** Exit code 1 when a MUST fails. */
export async function validateFocus({ out }: VerbContext, options: Options): Promise<number> {
  const path = wanted(options, 'file');
  const table = readCsv(await readCardText(path), path);
  const modelPath = options.text('model');
  const model =
    modelPath === undefined ? berthModel(versionOf(options)) : readModel(await readCardText(modelPath), modelPath);
  const declared = options.text('criteria');
  const criteria = declared === undefined ? BERTH_CRITERIA : declared.split(',').map((one) => one.trim());
  const verdict = runModel(model, table, criteria);
  await out(options.flag('json') ? `${JSON.stringify(verdict)}\n` : verdictText(verdict));
  return verdict.isConformant ? 0 : FAILED;
}

const NAMED: readonly RuleVerdict['status'][] = ['failed', 'warned', 'contradictory', 'defective'];

function verdictText({ model, verdicts, isConformant }: ModelVerdict): string {
  const lines = verdicts
    .filter(({ status }) => NAMED.includes(status))
    .map(({ rule, status, what, failures, rows }) => {
      const where =
        rows.length === 0
          ? ''
          : ` (${failures} row${failures === 1 ? '' : 's'}: ${rows.join(', ')}${failures > rows.length ? ', …' : ''})`;
      return `${status}  ${rule}${what === rule.replace(':', '') ? '' : `: ${what}`}${where}\n`;
    });
  const counts = new Map<string, number>();
  for (const { status } of verdicts) counts.set(status, (counts.get(status) ?? 0) + 1);
  const summary = [...counts].map(([status, count]) => `${count} ${status.replace('_', ' ')}`).join(', ');
  return `${lines.join('')}${model}: ${summary}\n${isConformant ? 'conformant as far as checked' : 'not conformant'}\n`;
}

function versionOf(options: Options): FocusVersion {
  const text = options.text('focus') ?? '1.2';
  const version = FOCUS_VERSIONS.find((one) => one === text);
  if (version === undefined)
    throw usageError(`there is no FOCUS ${text} here`, `there are ${FOCUS_VERSIONS.join(', ')}`);
  return version;
}
