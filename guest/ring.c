#include "ring.h"

#include <string.h>
#include <sys/mman.h>

size_t ring_room(const struct ring *ring)
{
	return ring->size - (size_t)(ring->head - ring->base);
}

bool ring_prepare(struct ring *ring)
{
	if (ring->data)
		return true;
	void *data = mmap(NULL, ring->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return false;
	ring->data = data;
	return true;
}

static int pieces_from(const struct ring *ring, size_t position, size_t count, struct iovec pieces[2])
{
	if (count == 0)
		return 0;
	size_t first = ring->size - position;
	if (first > count)
		first = count;
	pieces[0] = (struct iovec){ .iov_base = ring->data + position, .iov_len = first };
	if (first == count)
		return 1;
	pieces[1] = (struct iovec){ .iov_base = ring->data, .iov_len = count - first };
	return 2;
}

int ring_free_space(const struct ring *ring, struct iovec pieces[2])
{
	size_t used = (size_t)(ring->head - ring->base);
	return pieces_from(ring, (ring->start + used) % ring->size, ring->size - used, pieces);
}

int ring_pieces(const struct ring *ring, uint64_t from, struct iovec pieces[2])
{
	size_t skip = (size_t)(from - ring->base);
	return pieces_from(ring, (ring->start + skip) % ring->size, (size_t)(ring->head - from), pieces);
}

void ring_produced(struct ring *ring, size_t count)
{
	ring->head += count;
}

void ring_write(struct ring *ring, const uint8_t *data, size_t count)
{
	struct iovec pieces[2];
	int number = ring_free_space(ring, pieces);
	size_t left = count;
	for (int i = 0; i < number && left; i++) {
		size_t part = pieces[i].iov_len < left ? pieces[i].iov_len : left;
		memcpy(pieces[i].iov_base, data, part);
		data += part;
		left -= part;
	}
	ring->head += count - left;
}

void ring_ack(struct ring *ring, uint64_t offset)
{
	if (offset <= ring->base || offset > ring->head)
		return;
	ring->start = (ring->start + (size_t)(offset - ring->base)) % ring->size;
	ring->base = offset;
	if (ring->sent < offset)
		ring->sent = offset;
	if (ring->base == ring->head)
		ring->start = 0;
}

void ring_rewind(struct ring *ring, uint64_t offset)
{
	if (offset < ring->base)
		offset = ring->base;
	if (offset > ring->head)
		offset = ring->head;
	ring->sent = offset;
}

void ring_restart(struct ring *ring)
{
	ring->base = ring->sent = ring->head = 0;
	ring->start = 0;
}

void ring_free(struct ring *ring)
{
	if (ring->data)
		munmap(ring->data, ring->size);
	ring->data = NULL;
}
