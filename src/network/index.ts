export { formatIpv4, parseIpv4 } from './addresses.ts';
export {
  type Attachment,
  type AttachmentRequest,
  type Binding,
  type BridgeIdentity,
  BridgeNetwork,
  type BridgeOptions,
} from './bridge-network.ts';
export { UserNetwork } from './user-network.ts';
