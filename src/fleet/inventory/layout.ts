/**
 * The tables of `fleet.db`. Appended to, never edited.
 *
 * What the database itself enforces: one live sighting of a native id in a source, one live sighting of a VM in a
 * source, one open interval for a VM, no interval that ends before it begins.
 */
export const LAYOUT: readonly string[] = [
  `
  CREATE TABLE source (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, url TEXT NOT NULL, driver TEXT NOT NULL,
    secret BLOB, pin TEXT, allow_power INTEGER NOT NULL, every_ms INTEGER NOT NULL,
    added_ms INTEGER NOT NULL, removed_ms INTEGER,
    state TEXT NOT NULL CHECK (state IN ('new', 'up', 'down')), since_ms INTEGER NOT NULL,
    ok_ms INTEGER, problem TEXT, fingerprint TEXT
  );
  CREATE UNIQUE INDEX source_name ON source (name) WHERE removed_ms IS NULL;

  CREATE TABLE host (
    source_id INTEGER NOT NULL REFERENCES source, native_id TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
    facts TEXT NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, gone_ms INTEGER,
    PRIMARY KEY (source_id, native_id)
  ) WITHOUT ROWID;

  CREATE TABLE vm (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, uuid TEXT, source_id INTEGER NOT NULL REFERENCES source,
    -- What lists are sorted and paged by holds no NULL: '' and -1 stand for what nobody says; facts has the truth.
    power_state TEXT NOT NULL, host_name TEXT NOT NULL DEFAULT '',
    vcpus INTEGER NOT NULL DEFAULT -1, memory_bytes INTEGER NOT NULL DEFAULT -1, disk_bytes INTEGER NOT NULL DEFAULT -1,
    owner TEXT, facts TEXT NOT NULL, first_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, gone_ms INTEGER
  );
  CREATE INDEX vm_name ON vm (name, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_memory ON vm (memory_bytes, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_vcpus ON vm (vcpus, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_disk ON vm (disk_bytes, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_changed ON vm (changed_ms, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_state ON vm (power_state, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_state_name ON vm (power_state, name, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_host ON vm (host_name, name, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_source ON vm (source_id, name, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_any_name ON vm (name);

  CREATE TABLE tag (vm_id INTEGER NOT NULL REFERENCES vm, tag TEXT NOT NULL, PRIMARY KEY (tag, vm_id)) WITHOUT ROWID;
  CREATE INDEX tag_vm ON tag (vm_id);

  CREATE TABLE sighting (
    id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source, native_id TEXT NOT NULL,
    vm_id INTEGER NOT NULL REFERENCES vm, uuid TEXT, facts TEXT NOT NULL,
    first_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, gone_ms INTEGER
  );
  CREATE UNIQUE INDEX sighting_live ON sighting (source_id, native_id) WHERE gone_ms IS NULL;
  CREATE UNIQUE INDEX sighting_vm_live ON sighting (vm_id, source_id) WHERE gone_ms IS NULL;
  CREATE INDEX sighting_uuid ON sighting (uuid);
  CREATE INDEX sighting_vm ON sighting (vm_id);

  CREATE TABLE interval (
    id INTEGER PRIMARY KEY, vm_id INTEGER NOT NULL REFERENCES vm, source_id INTEGER NOT NULL REFERENCES source,
    host_key TEXT, host_name TEXT, power_state TEXT NOT NULL,
    vcpus INTEGER, memory_bytes INTEGER, disk_bytes INTEGER, owner TEXT,
    causes TEXT NOT NULL, moved_from TEXT,
    opened_ms INTEGER NOT NULL, opened_observed_ms INTEGER NOT NULL, opened_not_before_ms INTEGER NOT NULL,
    opened_how TEXT NOT NULL CHECK (opened_how IN ('event', 'poll')),
    closed_ms INTEGER, closed_observed_ms INTEGER, closed_not_before_ms INTEGER, closed_how TEXT,
    CHECK (closed_ms IS NULL OR closed_ms >= opened_ms)
  );
  CREATE UNIQUE INDEX interval_open ON interval (vm_id) WHERE closed_ms IS NULL;
  CREATE INDEX interval_vm ON interval (vm_id, id);
  CREATE INDEX interval_time ON interval (opened_ms);
  CREATE INDEX interval_moves ON interval (opened_ms, id) WHERE moved_from IS NOT NULL;

  CREATE TABLE change (
    id INTEGER PRIMARY KEY, vm_id INTEGER NOT NULL REFERENCES vm, source_id INTEGER NOT NULL REFERENCES source,
    at_ms INTEGER NOT NULL, observed_ms INTEGER NOT NULL, how TEXT NOT NULL,
    field TEXT NOT NULL, before TEXT, after TEXT, by_berth INTEGER NOT NULL
  );
  CREATE INDEX change_vm ON change (vm_id, id);

  CREATE TABLE intent (vm_id INTEGER NOT NULL REFERENCES vm, verb TEXT NOT NULL, at_ms INTEGER NOT NULL);
  CREATE INDEX intent_vm ON intent (vm_id, at_ms);

  CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID;

  CREATE VIRTUAL TABLE vm_search USING fts5 (
    name, ids, addresses, tags, place, tokenize = 'trigram', content = '', contentless_delete = 1, detail = 'full'
  );
  `,
  // Consumption, and addresses as part of the shape. How many addresses a VM had before is not known: its open interval ends
  // where its source was last seen, and another one begins there.
  `
  ALTER TABLE source ADD COLUMN sample_every_ms INTEGER NOT NULL DEFAULT 60000;
  ALTER TABLE source ADD COLUMN first_ok_ms INTEGER;
  ALTER TABLE source ADD COLUMN sampled_ms INTEGER;
  UPDATE source SET first_ok_ms = ok_ms;

  ALTER TABLE vm ADD COLUMN counted_ms INTEGER;
  ALTER TABLE interval ADD COLUMN addresses INTEGER;
  UPDATE interval SET closed_ms = seen_ms, closed_observed_ms = seen_ms, closed_not_before_ms = seen_ms, closed_how = 'poll'
    FROM (SELECT i.id AS open_id, MAX(i.opened_ms, COALESCE(source.ok_ms, i.opened_ms)) AS seen_ms
          FROM interval i JOIN source ON source.id = i.source_id WHERE i.closed_ms IS NULL) WHERE id = open_id;
  INSERT INTO interval (vm_id, source_id, host_key, host_name, power_state, vcpus, memory_bytes, disk_bytes, addresses,
      owner, causes, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how)
    SELECT i.vm_id, i.source_id, i.host_key, i.host_name, i.power_state, i.vcpus, i.memory_bytes, i.disk_bytes,
      (SELECT CASE WHEN COUNT(nic.value) > 0 AND COUNT(address.value) = 0 THEN NULL ELSE
           COUNT(DISTINCT address.value) FILTER (
       WHERE address.value NOT LIKE 'fe80:%' AND address.value NOT LIKE '169.254.%' AND address.value NOT LIKE '127.%'
         AND address.value <> '::1') END
       FROM json_each(vm.facts, '$.nics') nic LEFT JOIN json_each(nic.value, '$.addresses') address),
      i.owner, 'shape', i.closed_ms, i.closed_ms, i.closed_ms, 'poll'
    FROM interval i JOIN vm ON vm.id = i.vm_id
    WHERE vm.gone_ms IS NULL AND i.id = (SELECT MAX(id) FROM interval WHERE vm_id = vm.id);

  -- The last reading of a VM's counters that was kept; they are decimal text in JSON, up to 2^64.
  CREATE TABLE reading (
    source_id INTEGER NOT NULL REFERENCES source, vm_id INTEGER NOT NULL REFERENCES vm, run TEXT,
    at_ms INTEGER NOT NULL, ended_ms INTEGER, counters TEXT NOT NULL, PRIMARY KEY (source_id, vm_id)
  ) WITHOUT ROWID;

  CREATE TABLE consumed (
    hour_ms INTEGER NOT NULL, vm_id INTEGER NOT NULL REFERENCES vm, source_id INTEGER NOT NULL REFERENCES source,
    host_name TEXT NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
    cpu_ns INTEGER NOT NULL, memory_kib_ms INTEGER NOT NULL, disk_read_bytes INTEGER NOT NULL,
    disk_written_bytes INTEGER NOT NULL, disk_reads INTEGER NOT NULL, disk_writes INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL,
    PRIMARY KEY (hour_ms, vm_id, source_id, host_name)
  ) WITHOUT ROWID;
  CREATE INDEX consumed_vm ON consumed (vm_id, hour_ms);

  CREATE TABLE gap (
    id INTEGER PRIMARY KEY, vm_id INTEGER NOT NULL REFERENCES vm, source_id INTEGER NOT NULL REFERENCES source,
    kind TEXT NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL
  );
  CREATE INDEX gap_time ON gap (to_ms);
  CREATE INDEX gap_vm ON gap (vm_id, from_ms);
  `,
  // What hypervisors tell of the time before berth looked: intervals of a third kind, each at most once. When a look began, which
  // is what was known before the next one.
  `
  ALTER TABLE source ADD COLUMN look_began_ms INTEGER;
  ALTER TABLE source ADD COLUMN told_ms INTEGER;

  CREATE TABLE interval_of_3 (
    id INTEGER PRIMARY KEY, vm_id INTEGER NOT NULL REFERENCES vm, source_id INTEGER NOT NULL REFERENCES source,
    host_key TEXT, host_name TEXT, power_state TEXT NOT NULL,
    vcpus INTEGER, memory_bytes INTEGER, disk_bytes INTEGER, addresses INTEGER, owner TEXT,
    causes TEXT NOT NULL, moved_from TEXT,
    opened_ms INTEGER NOT NULL, opened_observed_ms INTEGER NOT NULL, opened_not_before_ms INTEGER NOT NULL,
    opened_how TEXT NOT NULL CHECK (opened_how IN ('event', 'poll', 'told')),
    closed_ms INTEGER, closed_observed_ms INTEGER, closed_not_before_ms INTEGER, closed_how TEXT,
    CHECK (closed_ms IS NULL OR closed_ms >= opened_ms),
    CHECK (opened_how <> 'told' OR closed_ms IS NOT NULL)
  );
  INSERT INTO interval_of_3 (id, vm_id, source_id, host_key, host_name, power_state, vcpus, memory_bytes, disk_bytes,
      addresses, owner, causes, moved_from, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how,
      closed_ms, closed_observed_ms, closed_not_before_ms, closed_how)
    SELECT id, vm_id, source_id, host_key, host_name, power_state, vcpus, memory_bytes, disk_bytes,
      addresses, owner, causes, moved_from, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how,
      closed_ms, closed_observed_ms, closed_not_before_ms, closed_how FROM interval;
  DROP TABLE interval;
  ALTER TABLE interval_of_3 RENAME TO interval;
  CREATE UNIQUE INDEX interval_open ON interval (vm_id) WHERE closed_ms IS NULL;
  CREATE UNIQUE INDEX interval_told ON interval (vm_id, source_id, opened_ms) WHERE opened_how = 'told';
  CREATE INDEX interval_vm ON interval (vm_id, opened_ms, id);
  CREATE INDEX interval_time ON interval (opened_ms);
  CREATE INDEX interval_moves ON interval (opened_ms, id) WHERE moved_from IS NOT NULL;
  `,
  // What hosts used, VMs and all: the last reading that was kept, sums by hour with the time they are of, and the gaps. Names of
  // Xen's runs begin with the host's boot: what stands under the old names has none, so that nothing is taken for a new run.
  `
  CREATE TABLE host_reading (
    source_id INTEGER NOT NULL REFERENCES source, native_id TEXT NOT NULL, run TEXT, at_ms INTEGER NOT NULL,
    -- Up to 2^64: as text.
    cpu_ns TEXT, PRIMARY KEY (source_id, native_id)
  ) WITHOUT ROWID;

  CREATE TABLE host_consumed (
    hour_ms INTEGER NOT NULL, source_id INTEGER NOT NULL REFERENCES source, native_id TEXT NOT NULL,
    -- As it was called when the hour began, which is what its VMs' use stands under.
    host_name TEXT NOT NULL,
    cpu_ns INTEGER NOT NULL, cpu_seen_ms INTEGER NOT NULL, cpu_holds_vms INTEGER NOT NULL,
    memory_kib_ms INTEGER NOT NULL, memory_seen_ms INTEGER NOT NULL, PRIMARY KEY (source_id, native_id, hour_ms)
  ) WITHOUT ROWID;
  CREATE INDEX host_consumed_hour ON host_consumed (hour_ms);
  CREATE INDEX consumed_host ON consumed (source_id, host_name, hour_ms);

  CREATE TABLE host_gap (
    id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source, native_id TEXT NOT NULL, kind TEXT NOT NULL,
    from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL
  );
  CREATE INDEX host_gap_time ON host_gap (source_id, native_id, to_ms);
  CREATE INDEX host_gap_end ON host_gap (to_ms);

  UPDATE reading SET run = NULL WHERE source_id IN (SELECT id FROM source WHERE driver = 'xen');
  `,
  // Owners and projects by rules. Lists are sorted by owners, so that nobody is ''. How far all VMs were decided by the rules of an
  // epoch: to which id, NULL for all of them.
  `
  ALTER TABLE vm ADD COLUMN project TEXT;
  UPDATE vm SET owner = '' WHERE owner IS NULL;
  CREATE INDEX vm_owner ON vm (owner, name, id) WHERE gone_ms IS NULL;
  CREATE INDEX vm_project ON vm (project, name, id) WHERE gone_ms IS NULL AND project IS NOT NULL;
  CREATE TABLE owner_sweep (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, done_to INTEGER);
  `,
  // Months of which rows of consumption were let go: written with the first that goes.
  `
  CREATE TABLE pruned (
    month TEXT NOT NULL, what TEXT NOT NULL CHECK (what IN ('hours', 'gaps')), at_ms INTEGER NOT NULL,
    PRIMARY KEY (month, what)
  ) WITHOUT ROWID;
  `,
  // Rows of the search index that are made later: every VM above the mark. Until now each had its row at once.
  `
  CREATE TABLE search_mark (upto INTEGER NOT NULL);
  INSERT INTO search_mark SELECT COALESCE(MAX(id), 0) FROM vm;
  `,
  // Lists by state come by name within a state, which vm_state_name has; lists of a source ask its sightings.
  `
  DROP INDEX vm_state;
  DROP INDEX vm_source;
  `,
  // Hosts as they were: one span for each time in which name, capacity and machine stayed the same. Several hosts with one machine
  // at a time are one machine that several sources show. What lies before this layout is as it was reckoned then.
  `
  CREATE TABLE host_span (
    id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL, native_id TEXT NOT NULL, machine INTEGER NOT NULL,
    name TEXT NOT NULL, uuid TEXT, threads INTEGER, memory_bytes INTEGER, opened_ms INTEGER NOT NULL, closed_ms INTEGER,
    CHECK (closed_ms IS NULL OR closed_ms >= opened_ms), FOREIGN KEY (source_id, native_id) REFERENCES host
  );
  INSERT INTO host_span (source_id, native_id, machine, name, threads, memory_bytes, opened_ms, closed_ms)
    SELECT source_id, native_id, row_number() OVER (ORDER BY source_id, native_id), name, facts ->> 'threads',
      facts ->> 'memoryBytes', first_ms, MAX(gone_ms, first_ms) FROM host;
  CREATE UNIQUE INDEX host_span_open ON host_span (source_id, native_id) WHERE closed_ms IS NULL;
  CREATE INDEX host_span_host ON host_span (source_id, native_id, opened_ms);
  CREATE INDEX host_span_machine ON host_span (machine);
  CREATE INDEX host_span_uuid ON host_span (uuid) WHERE closed_ms IS NULL AND uuid IS NOT NULL;
  `,
];
