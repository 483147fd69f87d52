/* The virtio-serial port: finding it, and the outgoing side of the channel.
 *
 * Order of sending: what is already in the transmit buffer, then control messages, then processes in turn. The queue
 * of control messages is bounded: while it is long the port is not read, so a host that asks without reading waits. */
#pragma once
#include "bytes.h"
#include "frame.h"

/* Waits, by uevents and at most `timeout_ms`, for the port named berth.agent; opens it non-blocking. */
bool open_port(int timeout_ms);
/* After an event: learns whether a host is there. */
void port_event(uint32_t events);
/* Reads once and hands whole messages to `handle`. True when there may be more to read. */
bool read_port(void (*handle)(const struct message *));
/* Writes as much as the port takes. True when it was left with work and the port would take more. */
bool write_port(void);
/* HELLO: forget all that was to be sent, and let sending begin. */
void restart_sending(void);
/* After HELLO_ACK: the log lines that waited for a host. */
void send_early_log(void);
bool host_joined(void);

/* Queues a control message. */
void send_message(enum message_type type, uint32_t id, const void *payload, size_t length);
/* As send_message; frees the buffer. A buffer that failed for want of memory is dropped and logged. */
void send_bytes(enum message_type type, uint32_t id, struct bytes *payload);

/* Room for one frame's payload of up to `*length` bytes in the transmit buffer, or NULL when it is too full.
 * For the output pump only. Commit with the payload's true length. */
uint8_t *begin_frame(size_t least, size_t *length);
void commit_frame(enum message_type type, uint32_t id, size_t length);

/* Waits at most `timeout_ms` until everything is written; then a moment for the host to act on it. */
void flush_port(int timeout_ms);
