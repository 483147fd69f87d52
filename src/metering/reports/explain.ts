/** Every line of a cost, with the arithmetic it came from, so that anybody can do it again by hand. Pure. */
import { sumOf } from '../exact.ts';
import { timeText } from '../usage/time-cuts.ts';
import type { ReportedCharge } from './report.ts';

export interface ExplainedLine {
  readonly from: string;
  readonly to: string;
  readonly whose: string;
  /** Card, version and item. */
  readonly price: string;
  /** Where the quantity comes from. */
  readonly basis: string;
  /** `2 vcpu-hour × 0.012 = 0.024 EUR` */
  readonly arithmetic: string;
  readonly cost: string;
}

export interface Explanation {
  readonly lines: readonly ExplainedLine[];
  /** The sum of all `cost`, to the last digit. */
  readonly total: string;
  readonly currency: string;
}

export function explain(charges: readonly ReportedCharge[], currency: string): Explanation {
  const lines = charges.map(({ charge, isCorrection }): ExplainedLine => {
    const { subject, quantity, unitPrice, unit } = charge;
    const whose = subject.vmName ?? subject.host ?? subject.project ?? subject.owner ?? 'nobody';
    const kind = isCorrection ? `correction of ${charge.period}, ` : '';
    return {
      from: timeText(charge.startMs),
      to: timeText(charge.endMs),
      whose,
      price: `${kind}${charge.card}/${charge.cardVersion}: ${charge.category === 'usage' ? '' : `${charge.category} `}${charge.item}`,
      basis: charge.basis,
      arithmetic:
        quantity === undefined || unitPrice === undefined
          ? `${charge.cost} ${charge.currency}`
          : `${quantity} ${unit ?? ''} × ${unitPrice} = ${charge.cost} ${charge.currency}`,
      cost: charge.cost.toString(),
    };
  });
  return { lines, total: sumOf(charges.map(({ charge }) => charge.cost)).toString(), currency };
}

export function explanationText({ lines, total, currency }: Explanation): string {
  const blocks = lines.map(
    (line) => `${line.from} – ${line.to}  ${line.whose}  ${line.price}\n    ${line.basis}\n    ${line.arithmetic}\n`,
  );
  return `${blocks.join('')}${lines.length} lines, together ${total} ${currency}\n`;
}
