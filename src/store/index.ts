export { type Database, openDatabase, type SqlValue } from './database.ts';
export { type FolderLock, lockFolder } from './folder-lock.ts';
export { connectPostgres, type PostgresConnection } from './postgres.ts';
export { openRecordStore, type RecordStore, type StoredRecord } from './records.ts';
export { openSqlFile, type SqlFile } from './sql-file.ts';
