export { type ApiHandler, apiHandler } from './server.ts';
