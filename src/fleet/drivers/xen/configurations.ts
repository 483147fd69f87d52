/**
 * What `xl list -l` tells: the configuration of each domain as libxl keeps it, as JSON. Defaults are left out of it. Pure.
 *
 * @source xl 4.17, tools/libs/light/libxl_types.idl
 */
import * as v from 'valibot';
import { BerthError, messageOf } from '#base';

/** Numbers of domains end at 32752; everything beyond is a domain that does not run. */
const DomidSchema = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0x7ff0));
const text = v.optional(v.string());
const kib = v.optional(v.pipe(v.number(), v.minValue(0)));
const MOST_DEVICES = 512;
/** @source Xen 4.17, HVM_MAX_VCPUS 128; PV guests may have 8192 */
const MOST_VCPUS = 8_192;

const ConfigurationSchema = v.object({
  c_info: v.object({ type: v.optional(v.string(), 'unknown'), name: v.optional(v.string(), ''), uuid: text }),
  b_info: v.object({
    max_vcpus: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
    /** Numbers of those the guest may use now. */
    avail_vcpus: v.optional(v.pipe(v.array(v.number()), v.maxLength(MOST_VCPUS))),
    max_memkb: kib,
    target_memkb: kib,
    kernel: text,
    bootloader: text,
    'type.hvm': v.optional(v.object({ bios: text })),
  }),
  disks: v.optional(
    v.pipe(
      v.array(
        v.object({
          vdev: v.optional(v.string(), ''),
          pdev_path: text,
          format: text,
          backend: text,
          is_cdrom: v.optional(v.union([v.number(), v.string(), v.boolean()])),
        }),
      ),
      v.maxLength(MOST_DEVICES),
    ),
    [],
  ),
  nics: v.optional(
    v.pipe(
      v.array(
        v.object({ devid: v.optional(v.number()), mac: text, bridge: text, ip: text, model: text, nictype: text }),
      ),
      v.maxLength(MOST_DEVICES),
    ),
    [],
  ),
});

export type Configuration = v.InferOutput<typeof ConfigurationSchema>;

export interface ConfiguredDomain {
  readonly domid: number;
  /** Undefined when it is not what it should be: the domain is there and cannot be read. */
  readonly configuration: Configuration | undefined;
  readonly name: string;
}

const OuterSchema = v.array(v.object({ domid: v.nullable(v.number()), config: v.unknown() }));

/** @throws xen.configurations (invalid) when it is no listing at all. One bad domain does not spoil the others. */
export function parseConfigurations(json: string): ConfiguredDomain[] {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new BerthError('invalid', 'xen.configurations', `xl list -l says what is no JSON: ${messageOf(error)}`);
  }
  const outer = v.safeParse(OuterSchema, value);
  if (!outer.success) {
    const problems = outer.issues.map((issue) => `${v.getDotPath(issue) ?? 'all of it'}: ${issue.message}`);
    throw new BerthError('invalid', 'xen.configurations', `xl list -l says what is no listing: ${problems.join('; ')}`);
  }
  return outer.output.flatMap(({ domid, config }) => {
    if (!v.is(DomidSchema, domid)) return [];
    const parsed = v.safeParse(ConfigurationSchema, config);
    const configuration = parsed.success ? Object.freeze(parsed.output) : undefined;
    return [{ domid, configuration, name: configuration?.c_info.name ?? '' }];
  });
}
