//go:build cgo

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "conn.h"

struct q_req {
	struct q_req *next, *prev; // in live
	struct q_req *after;       // in done or retired
	struct q_conn *c;
	struct scsi_task *task;
	unsigned char *buf;
	int direction;
	struct q_result r;
};

struct q_conn {
	struct iscsi_context *i;
	struct q_req *live;
	struct q_req *done, **done_tail;
	struct q_req *retired; // sent data that libiscsi may still refer to
	int state, ending, logged_out;
	char error[256];
	char *found;
	size_t found_len, found_cap;
};

enum { MAX_PINGS = 3, MAX_FOUND = 1 << 20 };

static void lose(struct q_conn *c, const char *why)
{
	if (c->state == Q_LOST)
		return;
	c->state = Q_LOST;
	const char *e = c->i ? iscsi_get_error(c->i) : NULL;
	if (e && *e)
		snprintf(c->error, sizeof c->error, "%s: %s", why, e);
	else
		snprintf(c->error, sizeof c->error, "%s", why);
	for (char *p = c->error; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = ' ';
}

struct q_conn *q_new(const char *initiator, const char *target, uint32_t isid, uint32_t qualifier,
		     const char *user, const char *password, const char *peer_user, const char *peer_password,
		     int timeout_ms)
{
	struct q_conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->done_tail = &c->done;
	c->i = iscsi_create_context(initiator);
	if (!c->i) {
		free(c);
		return NULL;
	}
	iscsi_set_noautoreconnect(c->i, 1);
	iscsi_set_tcp_user_timeout(c->i, timeout_ms);
	iscsi_set_isid_random(c->i, isid, qualifier);
	int bad = 0;
	if (target && *target) {
		bad |= iscsi_set_targetname(c->i, target);
		bad |= iscsi_set_session_type(c->i, ISCSI_SESSION_NORMAL);
	} else {
		bad |= iscsi_set_session_type(c->i, ISCSI_SESSION_DISCOVERY);
	}
	if (user && *user)
		bad |= iscsi_set_initiator_username_pwd(c->i, user, password);
	if (peer_user && *peer_user)
		bad |= iscsi_set_target_username_pwd(c->i, peer_user, peer_password);
	if (bad)
		lose(c, "a name or password is not acceptable");
	return c;
}

static void connected(struct iscsi_context *i, int status, void *data, void *priv)
{
	struct q_conn *c = priv;
	if (c->ending)
		return;
	if (status == SCSI_STATUS_GOOD)
		c->state = Q_UP;
	else
		lose(c, "connection or login");
}

int q_connect(struct q_conn *c, const char *portal)
{
	if (c->state == Q_LOST)
		return -1;
	if (iscsi_full_connect_async(c->i, portal, -1, connected, c) != 0) {
		lose(c, "connect");
		return -1;
	}
	return 0;
}

static void note(struct q_conn *c, const char *s)
{
	size_t n = strlen(s);
	if (c->found_len + n + 1 > MAX_FOUND)
		return;
	if (c->found_len + n + 1 > c->found_cap) {
		size_t cap = (c->found_len + n + 1) * 2;
		char *p = realloc(c->found, cap);
		if (!p)
			return;
		c->found = p;
		c->found_cap = cap;
	}
	memcpy(c->found + c->found_len, s, n + 1);
	c->found_len += n;
}

static void discovered(struct iscsi_context *i, int status, void *data, void *priv)
{
	struct q_conn *c = priv;
	if (c->ending)
		return;
	if (status != SCSI_STATUS_GOOD) {
		lose(c, "discovery");
		return;
	}
	note(c, "");
	for (struct iscsi_discovery_address *a = data; a; a = a->next) {
		note(c, a->target_name ? a->target_name : "");
		for (struct iscsi_target_portal *p = a->portals; p; p = p->next) {
			note(c, "\t");
			note(c, p->portal ? p->portal : "");
		}
		note(c, "\n");
	}
}

int q_discover(struct q_conn *c)
{
	if (iscsi_discovery_async(c->i, discovered, c) != 0) {
		lose(c, "discovery");
		return -1;
	}
	return 0;
}

const char *q_discovered(struct q_conn *c) { return c->found; }
int q_state(struct q_conn *c) { return c->state; }
const char *q_error(struct q_conn *c) { return c->error; }

// release gives back what a request held; its buffer only if it is still there.
static void release(struct q_req *q)
{
	if (q->task)
		scsi_free_scsi_task(q->task);
	q_give_buf(q->buf);
	free(q);
}

static void reap(struct q_conn *c)
{
	while (c->retired) {
		struct q_req *q = c->retired;
		c->retired = q->after;
		release(q);
	}
}

int q_poll(struct q_conn *c, int wake_fd, int timeout_ms)
{
	struct pollfd p[2] = {{.fd = wake_fd, .events = POLLIN}, {.fd = -1}};
	if (c && c->state != Q_LOST) {
		p[1].fd = iscsi_get_fd(c->i);
		p[1].events = iscsi_which_events(c->i);
		if (p[1].events == 0) // libiscsi asks not to be called for now
			p[1].fd = -1;
	}
	int n = poll(p, 2, timeout_ms);
	if (n < 0 && errno != EINTR)
		return -1;
	if (n > 0 && (p[0].revents & POLLIN)) {
		uint64_t v;
		if (read(wake_fd, &v, sizeof v) < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
	}
	if (!c || c->state == Q_LOST)
		return 0;
	if (n <= 0)
		p[1].revents = 0;
	if (iscsi_service(c->i, p[1].revents) < 0)
		lose(c, "connection");
	else if (iscsi_get_fd(c->i) < 0)
		lose(c, "connection closed by the target");
	else if (c->state == Q_UP && !c->logged_out && !iscsi_is_logged_in(c->i))
		lose(c, "session ended by the target");
	if (c->state != Q_LOST && c->retired && !(iscsi_which_events(c->i) & POLLOUT) && iscsi_out_queue_length(c->i) == 0)
		reap(c);
	return 0;
}

static struct q_req *take(struct q_conn *c, uint64_t id)
{
	struct q_req *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->c = c;
	q->r.id = id;
	q->next = c->live;
	if (c->live)
		c->live->prev = q;
	c->live = q;
	return q;
}

static void finish(struct q_req *q, int outcome)
{
	struct q_conn *c = q->c;
	q->r.outcome = outcome;
	if (q->prev)
		q->prev->next = q->next;
	else
		c->live = q->next;
	if (q->next)
		q->next->prev = q->prev;
	q->after = NULL;
	*c->done_tail = q;
	c->done_tail = &q->after;
}

static void answered(struct iscsi_context *i, int status, void *data, void *priv)
{
	struct q_req *q = priv;
	if (q->c->ending || status >= SCSI_STATUS_REDIRECT) {
		finish(q, Q_GONE);
		return;
	}
	struct scsi_task *t = q->task;
	q->r.status = status;
	q->r.key = t->sense.key;
	q->r.ascq = t->sense.ascq;
	q->r.moved = t->expxferlen;
	if (t->residual_status == SCSI_RESIDUAL_UNDERFLOW)
		q->r.moved = t->residual <= (size_t)t->expxferlen ? t->expxferlen - (int)t->residual : 0;
	finish(q, Q_ANSWERED);
}

int q_submit(struct q_conn *c, uint64_t id, int lun, unsigned char *cdb, int cdb_len,
	     int direction, unsigned char *buf, int len)
{
	static const int dirs[] = {SCSI_XFER_NONE, SCSI_XFER_READ, SCSI_XFER_WRITE};
	struct q_req *q = take(c, id);
	if (!q) {
		q_give_buf(buf);
		return -1;
	}
	q->buf = buf;
	q->direction = direction;
	q->task = scsi_create_task(cdb_len, cdb, dirs[direction], len);
	int bad = q->task == NULL;
	if (!bad && direction == 1)
		bad = scsi_task_add_data_in_buffer(q->task, len, buf);
	if (!bad && direction == 2)
		bad = scsi_task_add_data_out_buffer(q->task, len, buf);
	if (!bad)
		bad = iscsi_scsi_command_async(c->i, lun, q->task, answered, NULL, q);
	if (bad)
		finish(q, Q_GONE);
	return 0;
}

static void managed(struct iscsi_context *i, int status, void *data, void *priv)
{
	struct q_req *q = priv;
	if (q->c->ending || status != SCSI_STATUS_GOOD || !data) {
		finish(q, Q_GONE);
		return;
	}
	q->r.status = (int)*(uint32_t *)data;
	finish(q, Q_ANSWERED);
}

// q_reset does not use iscsi_task_mgmt_lun_reset_async, which would first
// cancel every command of the context, those of other units too.
int q_reset(struct q_conn *c, uint64_t id, int lun)
{
	struct q_req *q = take(c, id);
	if (!q)
		return -1;
	if (iscsi_task_mgmt_async(c->i, lun, ISCSI_TM_LUN_RESET, 0xffffffff, 0, managed, q) != 0)
		finish(q, Q_GONE);
	return 0;
}

int q_ping(struct q_conn *c)
{
	if (c->state != Q_UP)
		return 0;
	if (iscsi_get_nops_in_flight(c->i) >= MAX_PINGS) {
		lose(c, "the target answers no NOP-OUT");
		return -1;
	}
	return iscsi_nop_out_async(c->i, NULL, NULL, 0, NULL);
}

int q_collect(struct q_conn *c, struct q_result *out, int max)
{
	int n = 0;
	while (c->done && n < max) {
		struct q_req *q = c->done;
		c->done = q->after;
		if (!c->done)
			c->done_tail = &c->done;
		out[n] = q->r;
		if (q->direction == 1 && q->r.outcome == Q_ANSWERED) {
			out[n].buf = q->buf;
			q->buf = NULL;
		}
		n++;
		if (c->i && (q->direction == 2 || q->r.outcome == Q_GONE)) {
			q->after = c->retired;
			c->retired = q;
		} else {
			release(q);
		}
	}
	return n;
}

static void parted(struct iscsi_context *i, int status, void *data, void *priv)
{
	struct q_conn *c = priv;
	if (!c->ending)
		c->state = Q_LOST;
}

int q_logout(struct q_conn *c)
{
	if (c->state != Q_UP)
		return -1;
	c->logged_out = 1;
	return iscsi_logout_async(c->i, parted, c);
}

// q_end ends the connection. Every request that is left becomes collectable as
// gone.
void q_end(struct q_conn *c)
{
	c->ending = 1;
	c->state = Q_LOST;
	iscsi_destroy_context(c->i);
	c->i = NULL;
	while (c->live)
		finish(c->live, Q_GONE);
	reap(c);
}

// q_free frees what q_end has left, collected or not.
void q_free(struct q_conn *c)
{
	while (c->done) {
		struct q_req *q = c->done;
		c->done = q->after;
		release(q);
	}
	reap(c);
	free(c->found);
	free(c);
}
