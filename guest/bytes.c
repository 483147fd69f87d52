#include "bytes.h"

#include <stdlib.h>
#include <string.h>

void put_bytes(struct bytes *out, const void *data, size_t length)
{
	if (out->failed || length == 0)
		return;
	if (length > out->capacity - out->length) {
		size_t capacity = out->capacity ? out->capacity : 256;
		while (capacity - out->length < length)
			capacity *= 2;
		uint8_t *grown = realloc(out->data, capacity);
		if (!grown) {
			out->failed = true;
			return;
		}
		out->data = grown;
		out->capacity = capacity;
	}
	memcpy(out->data + out->length, data, length);
	out->length += length;
}

void store_u32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

void store_u64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

void put_u8(struct bytes *out, uint8_t value)
{
	put_bytes(out, &value, 1);
}

void put_u16(struct bytes *out, uint16_t value)
{
	uint8_t raw[2] = { (uint8_t)value, (uint8_t)(value >> 8) };
	put_bytes(out, raw, sizeof raw);
}

void put_u32(struct bytes *out, uint32_t value)
{
	uint8_t raw[4];
	store_u32(raw, value);
	put_bytes(out, raw, sizeof raw);
}

void put_u64(struct bytes *out, uint64_t value)
{
	uint8_t raw[8];
	store_u64(raw, value);
	put_bytes(out, raw, sizeof raw);
}

void free_bytes(struct bytes *out)
{
	free(out->data);
	*out = (struct bytes){ 0 };
}

uint16_t load_u16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

uint32_t load_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t load_u64(const uint8_t *at)
{
	return (uint64_t)load_u32(at) | (uint64_t)load_u32(at + 4) << 32;
}

void put_field(struct bytes *out, uint16_t tag, const void *value, size_t length)
{
	put_u16(out, tag);
	put_u32(out, (uint32_t)length);
	put_bytes(out, value, length);
}

void put_field_u32(struct bytes *out, uint16_t tag, uint32_t value)
{
	uint8_t raw[4];
	store_u32(raw, value);
	put_field(out, tag, raw, sizeof raw);
}

void put_field_u64(struct bytes *out, uint16_t tag, uint64_t value)
{
	uint8_t raw[8];
	store_u64(raw, value);
	put_field(out, tag, raw, sizeof raw);
}

void put_field_text(struct bytes *out, uint16_t tag, const char *text)
{
	put_field(out, tag, text, strlen(text));
}

struct field_cursor fields_of(const uint8_t *payload, size_t length)
{
	return (struct field_cursor){ .at = payload, .left = length };
}

bool next_field(struct field_cursor *cursor, struct field *field)
{
	if (cursor->left == 0 || cursor->malformed)
		return false;
	if (cursor->left < 6) {
		cursor->malformed = true;
		return false;
	}
	uint32_t length = load_u32(cursor->at + 2);
	if (length > cursor->left - 6) {
		cursor->malformed = true;
		return false;
	}
	*field = (struct field){ .tag = load_u16(cursor->at), .value = cursor->at + 6, .length = length };
	cursor->at += 6 + (size_t)length;
	cursor->left -= 6 + (size_t)length;
	return true;
}

uint32_t field_u32(const struct field *field)
{
	return field->length >= 4 ? load_u32(field->value) : 0;
}

uint64_t field_u64(const struct field *field)
{
	return field->length >= 8 ? load_u64(field->value) : 0;
}

char *field_text(const struct field *field)
{
	char *text = malloc((size_t)field->length + 1);
	if (!text)
		return NULL;
	if (field->length)
		memcpy(text, field->value, field->length);
	text[field->length] = '\0';
	return text;
}
