//go:build cgo

#include <pthread.h>
#include <stdio.h>

#include "conn.h"

// Memory between small and large bytes is taken as large bytes, and up to kept of those
// are kept: 64 MiB of a process that has had as much under way at once.
enum { SMALL = 64 << 10, LARGE = 1 << 20, KEPT = 64 };

// header lies in front of a buffer, and keeps it aligned.
union header {
	size_t size;
	unsigned char align[64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static union header *kept[KEPT]; // the last is the warmest
static int count;

unsigned char *q_take_buf(size_t n)
{
	union header *h = NULL;
	if (n > SMALL && n <= LARGE) {
		n = LARGE;
		pthread_mutex_lock(&lock);
		if (count > 0)
			h = kept[--count];
		pthread_mutex_unlock(&lock);
	}
	if (!h)
		h = malloc(sizeof *h + n);
	if (!h) { // as the runtime of Go does where there is no memory
		fputs("out of memory for I/O\n", stderr);
		abort();
	}
	h->size = n;
	return (unsigned char *)(h + 1);
}

void q_give_buf(unsigned char *buf)
{
	if (!buf)
		return;
	union header *h = (union header *)buf - 1;
	if (h->size == LARGE) {
		pthread_mutex_lock(&lock);
		if (count < KEPT) {
			kept[count++] = h;
			h = NULL;
		}
		pthread_mutex_unlock(&lock);
	}
	free(h);
}
