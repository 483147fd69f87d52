export { GuestChannel, type GuestChannelHandlers } from './channel.ts';
export type {
  GuestConfiguration,
  GuestHello,
  GuestLayer,
  GuestMemory,
  GuestProcessSpec,
  GuestTopEntry,
  ProcessExit,
  StartOutcome,
} from './messages.ts';
