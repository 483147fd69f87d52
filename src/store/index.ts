export { type Database, openDatabase, type SqlValue } from './database.ts';
export { type FolderLock, lockFolder } from './folder-lock.ts';
export { openRecordStore, type RecordStore, type StoredRecord } from './records.ts';
