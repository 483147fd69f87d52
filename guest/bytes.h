/* Little-endian numbers, a growing buffer, and the tag-length-value fields of PROTOCOL.md. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing buffer. An allocation that fails sets `failed` and later puts do nothing: check once at the end. */
struct bytes {
	uint8_t *data;
	size_t length, capacity;
	bool failed;
};

void put_bytes(struct bytes *out, const void *data, size_t length);
void put_u8(struct bytes *out, uint8_t value);
void put_u16(struct bytes *out, uint16_t value);
void put_u32(struct bytes *out, uint32_t value);
void put_u64(struct bytes *out, uint64_t value);
void free_bytes(struct bytes *out);

void store_u32(uint8_t *at, uint32_t value);
void store_u64(uint8_t *at, uint64_t value);
uint16_t load_u16(const uint8_t *at);
uint32_t load_u32(const uint8_t *at);
uint64_t load_u64(const uint8_t *at);

void put_field(struct bytes *out, uint16_t tag, const void *value, size_t length);
void put_field_u32(struct bytes *out, uint16_t tag, uint32_t value);
void put_field_u64(struct bytes *out, uint16_t tag, uint64_t value);
void put_field_text(struct bytes *out, uint16_t tag, const char *text);

struct field {
	uint16_t tag;
	const uint8_t *value;
	uint32_t length;
};

struct field_cursor {
	const uint8_t *at;
	size_t left;
	bool malformed; /* the payload ended inside a field */
};

struct field_cursor fields_of(const uint8_t *payload, size_t length);
/* False at the end, and when the rest is malformed. */
bool next_field(struct field_cursor *cursor, struct field *field);
/* The value as a number, 0 when it is too short. */
uint32_t field_u32(const struct field *field);
uint64_t field_u64(const struct field *field);
/* A NUL-terminated copy, or NULL without memory. Bytes after a NUL inside the value stay unseen by C. */
char *field_text(const struct field *field);
