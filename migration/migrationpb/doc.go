// Package migrationpb is the wire format between the two ends of a live
// migration. It is generated from migration.proto, which says what the messages
// mean, and is used by migration/agent alone.
package migrationpb
