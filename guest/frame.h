/* The frame byte machine of PROTOCOL.md: bytes in, whole messages out. Pure: no I/O. */
#pragma once
#include "bytes.h"

enum {
	FRAME_HEADER = 16,
	FRAME_MAGIC_0 = 0xB3,
	FRAME_MAGIC_1 = 0x7A,
	FRAME_MORE = 1,
	FRAME_IN_MAX = 16384,      /* payload of one frame from the host */
	FRAME_OUT_MAX = 65536,     /* payload of one frame to the host */
	MESSAGE_IN_MAX = 1 << 20,  /* a message from the host, all its frames together */
	MESSAGE_OUT_MAX = 4 << 20, /* a message to the host */
};

enum message_type {
	M_HELLO = 1,
	M_CONFIGURE,
	M_START,
	M_STDIN,
	M_STDIN_EOF,
	M_SIGNAL,
	M_RESIZE,
	M_ACK,
	M_RESUME,
	M_EXIT_ACK,
	M_TOP,
	M_PING,
	M_POWEROFF,
	M_MEMORY,
	M_SETCLOCK,
	M_REHEARSE,
	M_FREEZE,
	M_THAW,
	M_IDENTIFY,
	M_FLUSH,
	M_HELLO_ACK = 129,
	M_CONFIGURED,
	M_STARTED,
	M_OUTPUT,
	M_EXITED,
	M_STDIN_WINDOW,
	M_TOP_REPLY,
	M_PONG,
	M_LOG,
	M_SYNCED,
	M_MEMORY_REPLY,
	M_REHEARSED,
	M_FROZEN,
	M_THAWED,
	M_IDENTIFIED,
	M_FLUSHED,
};

struct message {
	uint8_t type;
	uint32_t id;
	const uint8_t *payload; /* valid until the next feed */
	size_t length;
	bool too_large; /* the message was dropped for its size or for want of memory; the payload is empty */
};

struct frame_reader {
	uint8_t header[FRAME_HEADER];
	size_t have;         /* bytes of header and payload read so far */
	uint32_t length;     /* payload length once the header is whole */
	uint8_t payload[FRAME_IN_MAX];
	struct bytes parts;  /* the message being assembled from MORE frames */
	bool assembling, too_large;
	uint8_t parts_type;
	uint32_t parts_id;
	uint32_t bad_frames; /* frames dropped for their length or CRC */
};

/* Takes bytes from `data` up to the end of the first whole message; returns how many it took. `*ready` says whether
 * `*message` was filled. Call again with the rest. */
size_t feed_frame(struct frame_reader *reader, const uint8_t *data, size_t length, struct message *message,
		  bool *ready);
/* HELLO: a half-assembled message belongs to a connection that is gone. */
void forget_parts(struct frame_reader *reader);

uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length);
void store_header(uint8_t *at, uint8_t type, uint8_t flags, uint32_t id, uint32_t length);
