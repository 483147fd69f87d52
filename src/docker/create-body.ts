/**
 * The body of `POST /containers/create`, as clients send it. Fields berth does not know are kept (inspect shows them
 * again) and logged; known ones are checked. null and absent mean the same throughout, as in dockerd.
 */
import * as v from 'valibot';

const text = v.optional(v.nullable(v.string()), '');
const flag = v.optional(v.nullable(v.boolean()), false);
const number = v.optional(v.nullable(v.number()), 0);
const texts = v.optional(v.nullable(v.array(v.string())));
const textMap = v.optional(v.nullable(v.record(v.string(), v.string())));
/** `["sh","-c"]`, or one string as dockerode and old clients send it. */
const command = v.optional(v.nullable(v.union([v.array(v.string()), v.string()])));
const present = v.optional(v.nullable(v.record(v.string(), v.unknown())));
const anyList = v.optional(v.nullable(v.array(v.unknown())));

const PortBindings = v.optional(
  v.nullable(
    v.record(
      v.string(),
      v.nullable(
        v.array(
          v.looseObject({ HostIp: text, HostPort: v.optional(v.nullable(v.union([v.string(), v.number()])), '') }),
        ),
      ),
    ),
  ),
);

const Mount = v.looseObject({
  Type: v.optional(v.string(), 'volume'),
  Target: text,
  Source: text,
  ReadOnly: flag,
  VolumeOptions: v.optional(
    v.nullable(
      v.looseObject({
        NoCopy: flag,
        Subpath: text,
        Labels: textMap,
        DriverConfig: v.optional(v.nullable(v.looseObject({ Name: text, Options: textMap }))),
      }),
    ),
  ),
  TmpfsOptions: v.optional(v.nullable(v.looseObject({ SizeBytes: number, Mode: number }))),
});

export const HostConfigSchema = v.looseObject({
  Binds: texts,
  Mounts: v.optional(v.nullable(v.array(Mount))),
  VolumesFrom: texts,
  NetworkMode: text,
  PortBindings,
  PublishAllPorts: flag,
  RestartPolicy: v.optional(v.nullable(v.looseObject({ Name: text, MaximumRetryCount: number }))),
  AutoRemove: flag,
  Memory: number,
  MemorySwap: number,
  NanoCpus: number,
  CpuQuota: number,
  CpuPeriod: number,
  ReadonlyRootfs: flag,
  Tmpfs: textMap,
  ExtraHosts: texts,
  Dns: texts,
  DnsSearch: texts,
  DnsOptions: texts,
  CapAdd: texts,
  CapDrop: texts,
  SecurityOpt: texts,
  GroupAdd: texts,
  Sysctls: textMap,
  ShmSize: number,
  StorageOpt: textMap,
  Ulimits: v.optional(v.nullable(v.array(v.looseObject({ Name: v.string(), Soft: v.number(), Hard: v.number() })))),
  Devices: anyList,
  DeviceRequests: anyList,
  Links: texts,
  PidMode: text,
  IpcMode: text,
  UTSMode: text,
  UsernsMode: text,
  Runtime: text,
  Privileged: flag,
  ConsoleSize: v.optional(v.nullable(v.array(v.number()))),
  LogConfig: v.optional(v.nullable(v.looseObject({ Type: text, Config: textMap }))),
});

export const CreateSchema = v.looseObject({
  Image: text,
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: texts,
  Cmd: command,
  Entrypoint: command,
  WorkingDir: text,
  Labels: textMap,
  StopSignal: text,
  StopTimeout: v.optional(v.nullable(v.number())),
  ExposedPorts: present,
  Volumes: present,
  Healthcheck: v.optional(v.nullable(v.looseObject({ Test: texts }))),
  MacAddress: text,
  NetworkDisabled: flag,
  HostConfig: v.optional(v.nullable(HostConfigSchema)),
  NetworkingConfig: v.optional(v.nullable(v.looseObject({ EndpointsConfig: present }))),
});

export type CreateBody = v.InferOutput<typeof CreateSchema>;
export type HostConfig = v.InferOutput<typeof HostConfigSchema>;

export const ExecCreateSchema = v.looseObject({
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  Tty: flag,
  Env: texts,
  Cmd: v.optional(v.nullable(v.array(v.string()))),
  User: text,
  WorkingDir: text,
  Privileged: flag,
  DetachKeys: text,
});

export const ExecStartSchema = v.looseObject({
  Detach: flag,
  Tty: flag,
  ConsoleSize: v.optional(v.nullable(v.array(v.number()))),
});
