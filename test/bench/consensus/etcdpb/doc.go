// Package etcdpb is as much of etcd's client protocol as the bench beside it
// speaks: a put, and who leads.
package etcdpb
