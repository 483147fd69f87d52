/** The proof that something really ran where it should: the name of the kernel it saw. */
import { BerthError } from '#base';

export const VM_CHECK = 'uname -r inside is not the host’s';
export const CONTAINER_CHECK = 'uname -r inside is the host’s';

export interface KernelClaim {
  readonly side: string;
  readonly isVm: boolean;
  /** What `uname -r` printed inside. */
  readonly printed: string;
  readonly hostKernel: string;
}

/** @throws bench.check (data_loss) when it is not the kernel this side has to have: then there is no figure. */
export function checkKernel({ side, isVm, printed, hostKernel }: KernelClaim): void {
  const release = printed.trim();
  const isRight = isVm ? /^[0-9]+\.[0-9]+\S*$/.test(release) && release !== hostKernel : release === hostKernel;
  if (isRight) return;
  const expected = isVm ? `a kernel of its own, not the host's ${hostKernel}` : `the host's kernel ${hostKernel}`;
  throw new BerthError(
    'data_loss',
    'bench.check',
    `${side}: "uname -r" inside printed ${JSON.stringify(release)}; expected ${expected}`,
    { hint: 'the side did not run what it should: its time would mean nothing' },
  );
}
