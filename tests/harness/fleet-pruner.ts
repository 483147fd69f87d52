/** Lets go of old consumption, until it is killed or done. Argument: the database. Prints a line for each step that took rows. */

import { monthsAgoMs } from '../../src/fleet/consumption/months.ts';
import { PruneTable } from '../../src/fleet/consumption/prune-table.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { NOW_MS } from '../../src/fleet/old-estate-fixture.ts';

const inventory = Inventory.open(process.argv[2] ?? '');
const table = new PruneTable(inventory.database);
for (const month of table.monthsBefore('hours', monthsAgoMs(NOW_MS, 25)))
  while (table.step('hours', month, { sinceMs: 0, nowMs: NOW_MS }) > 0) process.stdout.write(`${month.name}\n`);
inventory.close();
