#include "frame.h"

#include <string.h>

/* CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320), four bits at a time: a table of 64 bytes stays in the cache
 * and the host sends little. */
uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length)
{
	static const uint32_t nibble[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc = nibble[(crc ^ data[i]) & 15] ^ (crc >> 4);
		crc = nibble[(crc ^ (data[i] >> 4)) & 15] ^ (crc >> 4);
	}
	return ~crc;
}

void store_header(uint8_t *at, uint8_t type, uint8_t flags, uint32_t id, uint32_t length)
{
	at[0] = FRAME_MAGIC_0;
	at[1] = FRAME_MAGIC_1;
	at[2] = type;
	at[3] = flags;
	store_u32(at + 4, id);
	store_u32(at + 8, length);
	store_u32(at + 12, 0);
}

void forget_parts(struct frame_reader *reader)
{
	free_bytes(&reader->parts);
	reader->assembling = false;
	reader->too_large = false;
}

static void begin_parts(struct frame_reader *reader, uint8_t type, uint32_t id)
{
	forget_parts(reader);
	reader->assembling = true;
	reader->parts_type = type;
	reader->parts_id = id;
}

static void add_part(struct frame_reader *reader)
{
	if (reader->too_large)
		return;
	bool fits = reader->parts.length + reader->length <= MESSAGE_IN_MAX;
	if (fits)
		put_bytes(&reader->parts, reader->payload, reader->length);
	if (!fits || reader->parts.failed) {
		free_bytes(&reader->parts);
		reader->too_large = true;
	}
}

/* A whole frame with a good CRC is in the reader. */
static bool finish_frame(struct frame_reader *reader, struct message *message)
{
	uint8_t type = reader->header[2];
	bool more = reader->header[3] & FRAME_MORE;
	uint32_t id = load_u32(reader->header + 4);
	bool continues = reader->assembling && reader->parts_type == type && reader->parts_id == id;
	if (!more && !continues) {
		*message = (struct message){ .type = type, .id = id, .payload = reader->payload, .length = reader->length };
		return true;
	}
	if (!continues)
		begin_parts(reader, type, id);
	add_part(reader);
	if (more)
		return false;
	reader->assembling = false;
	*message = (struct message){ .type = type,
				     .id = id,
				     .payload = reader->parts.data,
				     .length = reader->parts.length,
				     .too_large = reader->too_large };
	return true;
}

size_t feed_frame(struct frame_reader *reader, const uint8_t *data, size_t length, struct message *message,
		  bool *ready)
{
	size_t taken = 0;
	*ready = false;
	if (!reader->assembling && reader->parts.data)
		free_bytes(&reader->parts); /* the message handed out last time */
	while (taken < length) {
		if (reader->have < 2) {
			/* Between frames: skip until the magic. A second 0xB3 may be the true beginning. */
			uint8_t byte = data[taken++];
			if (reader->have == 1 && byte == FRAME_MAGIC_1)
				reader->header[reader->have++] = byte;
			else
				reader->have = byte == FRAME_MAGIC_0 ? 1 : 0;
			if (reader->have == 1)
				reader->header[0] = byte;
			continue;
		}
		if (reader->have < FRAME_HEADER) {
			size_t part = FRAME_HEADER - reader->have;
			if (part > length - taken)
				part = length - taken;
			memcpy(reader->header + reader->have, data + taken, part);
			reader->have += part;
			taken += part;
			if (reader->have < FRAME_HEADER)
				break;
			reader->length = load_u32(reader->header + 8);
			if (reader->length > FRAME_IN_MAX) {
				reader->bad_frames++;
				reader->have = 0;
				continue;
			}
		}
		size_t payload_have = reader->have - FRAME_HEADER;
		size_t part = reader->length - payload_have;
		if (part > length - taken)
			part = length - taken;
		if (part) {
			memcpy(reader->payload + payload_have, data + taken, part);
			reader->have += part;
			taken += part;
		}
		if (reader->have < FRAME_HEADER + (size_t)reader->length)
			break;
		reader->have = 0;
		uint32_t crc = crc32_of(0, reader->header, 12);
		if (crc32_of(crc, reader->payload, reader->length) != load_u32(reader->header + 12)) {
			reader->bad_frames++;
			continue;
		}
		if (finish_frame(reader, message)) {
			*ready = true;
			break;
		}
	}
	return taken;
}
