/* A ring of numbered bytes: kept from `base` (acknowledged) to `head` (produced), read again from `sent`. */
#pragma once
#include "bytes.h"

#include <sys/uio.h>

struct ring {
	uint8_t *data; /* mapped at the first use */
	size_t size;
	size_t start; /* where the byte numbered `base` lies; back to 0 whenever the ring is empty, so that a quiet
			 stream touches one page only */
	uint64_t base, sent, head;
};

size_t ring_room(const struct ring *ring);
/* Maps the memory when needed. False without memory. */
bool ring_prepare(struct ring *ring);
/* The free space as one or two pieces; returns how many. */
int ring_free_space(const struct ring *ring, struct iovec pieces[2]);
/* The kept bytes from number `from` on, as one or two pieces. */
int ring_pieces(const struct ring *ring, uint64_t from, struct iovec pieces[2]);
void ring_produced(struct ring *ring, size_t count);
/* Copies bytes in; `count` must not exceed the room. */
void ring_write(struct ring *ring, const uint8_t *data, size_t count);
/* Everything below `offset` is safe. An offset outside base..head is ignored. */
void ring_ack(struct ring *ring, uint64_t offset);
/* Sends again from `offset`, as near as the ring has it. */
void ring_rewind(struct ring *ring, uint64_t offset);
/* Drops what is kept and numbers from 0 again. */
void ring_restart(struct ring *ring);
void ring_free(struct ring *ring);
