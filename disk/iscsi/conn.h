// A thin layer over libiscsi's asynchronous API: one connection, requests with
// buffers of their own, and a list of finished requests to collect. Everything
// here runs on the one thread that owns the connection.
#ifndef QUORATE_ISCSI_CONN_H
#define QUORATE_ISCSI_CONN_H

#include <stdint.h>
#include <stdlib.h>

enum { Q_CONNECTING = 0, Q_UP = 1, Q_LOST = -1 };
enum { Q_ANSWERED = 0, Q_GONE = 1 };

struct q_conn;

// q_take_buf returns memory for a request's data, with whatever was there before, and
// q_give_buf takes it back (NULL too), on any thread. Large ones are kept for the next: the
// C library gives them back to the kernel, and each page of theirs then faults anew.
unsigned char *q_take_buf(size_t n);
void q_give_buf(unsigned char *buf);

struct q_result {
	uint64_t id;
	unsigned char *buf; // for a read that was answered: the collector gives it back
	int outcome;        // Q_ANSWERED or Q_GONE
	int status;         // SCSI status, or a task management response
	int key, ascq;
	int moved;
};

struct q_conn *q_new(const char *initiator, const char *target, uint32_t isid, uint32_t qualifier,
		     const char *user, const char *password, const char *peer_user, const char *peer_password,
		     int timeout_ms);
int q_connect(struct q_conn *c, const char *portal);
int q_discover(struct q_conn *c);
const char *q_discovered(struct q_conn *c);
int q_state(struct q_conn *c);
const char *q_error(struct q_conn *c);
int q_poll(struct q_conn *c, int wake_fd, int timeout_ms);
int q_submit(struct q_conn *c, uint64_t id, int lun, unsigned char *cdb, int cdb_len,
	     int direction, unsigned char *buf, int len);
int q_reset(struct q_conn *c, uint64_t id, int lun);
int q_ping(struct q_conn *c);
int q_collect(struct q_conn *c, struct q_result *out, int max);
int q_logout(struct q_conn *c);
void q_end(struct q_conn *c);
void q_free(struct q_conn *c);

#endif
