/* Unit tests of the parts without I/O, run natively under the sanitizers. */
#include "bytes.h"
#include "frame.h"
#include "ring.h"
#include "user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks;

#define CHECK(condition)                                                             \
	do {                                                                         \
		checks++;                                                            \
		if (!(condition)) {                                                  \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                     \
		}                                                                    \
	} while (0)

static void put_frame(struct bytes *out, uint8_t type, uint8_t flags, uint32_t id, const void *payload, uint32_t length)
{
	uint8_t header[FRAME_HEADER];
	store_header(header, type, flags, id, length);
	uint32_t crc = crc32_of(crc32_of(0, header, 12), payload, length);
	store_u32(header + 12, crc);
	put_bytes(out, header, sizeof header);
	put_bytes(out, payload, length);
}

/* Feeds in portions of at most `portion` bytes; counts messages and remembers the last. */
static int feed_all(struct frame_reader *reader, const struct bytes *stream, size_t portion, struct bytes *last)
{
	int messages = 0;
	for (size_t at = 0; at < stream->length;) {
		struct message message;
		bool ready;
		size_t part = stream->length - at < portion ? stream->length - at : portion;
		at += feed_frame(reader, stream->data + at, part, &message, &ready);
		if (!ready)
			continue;
		messages++;
		last->length = 0;
		put_bytes(last, message.payload, message.length);
		if (message.type == M_HELLO)
			forget_parts(reader);
	}
	return messages;
}

static void test_crc(void)
{
	CHECK(crc32_of(0, (const uint8_t *)"123456789", 9) == 0xCBF43926);
}

static void test_frames_in_any_portions(void)
{
	uint8_t payload[5000];
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)(i * 7);
	for (size_t portion = 1; portion < 6000; portion = portion * 3 + 1) {
		struct frame_reader *reader = calloc(1, sizeof *reader);
		struct bytes stream = { 0 }, last = { 0 };
		put_bytes(&stream, "\xB3\xB3\x00noise", 8);
		put_frame(&stream, M_PING, 0, 1, "", 0);
		put_frame(&stream, M_STDIN, 0, 7, payload, sizeof payload);
		put_frame(&stream, M_START, FRAME_MORE, 9, payload, 3000);
		put_frame(&stream, M_ACK, 0, 7, "123456789", 9); /* may come between the parts */
		put_frame(&stream, M_START, 0, 9, payload + 3000, 2000);
		CHECK(feed_all(reader, &stream, portion, &last) == 4);
		CHECK(last.length == sizeof payload && memcmp(last.data, payload, sizeof payload) == 0);
		CHECK(reader->bad_frames == 0);
		forget_parts(reader);
		free(reader);
		free_bytes(&stream);
		free_bytes(&last);
	}
}

static void test_every_cut_is_completed_by_zeros(void)
{
	static const uint8_t zeros[FRAME_HEADER + FRAME_IN_MAX];
	uint8_t payload[300], nonce[20] = "nonce-nonce-nonce!!";
	memset(payload, 0xB3, sizeof payload);
	struct bytes whole = { 0 };
	put_frame(&whole, M_STDIN, 0, 7, payload, sizeof payload);
	for (size_t cut = 0; cut <= whole.length; cut++) {
		struct frame_reader *reader = calloc(1, sizeof *reader);
		struct bytes stream = { 0 }, last = { 0 };
		put_frame(&stream, M_START, FRAME_MORE, 3, payload, sizeof payload);
		put_bytes(&stream, whole.data, cut);
		put_bytes(&stream, zeros, sizeof zeros);
		put_frame(&stream, M_HELLO, 0, 0, nonce, sizeof nonce);
		int messages = feed_all(reader, &stream, 100, &last);
		CHECK(messages == (cut == whole.length ? 2 : 1));
		CHECK(last.length == sizeof nonce && memcmp(last.data, nonce, sizeof nonce) == 0);
		CHECK(!reader->assembling && !reader->parts.data);
		free(reader);
		free_bytes(&stream);
		free_bytes(&last);
	}
	free_bytes(&whole);
}

static void test_messages_are_bounded(void)
{
	struct frame_reader *reader = calloc(1, sizeof *reader);
	uint8_t *payload = calloc(1, FRAME_IN_MAX);
	struct bytes stream = { 0 };
	for (int i = 0; i < 70; i++)
		put_frame(&stream, M_START, i < 69 ? FRAME_MORE : 0, 5, payload, FRAME_IN_MAX);
	struct message message = { 0 };
	bool ready = false;
	for (size_t at = 0; at < stream.length && !ready;)
		at += feed_frame(reader, stream.data + at, stream.length - at, &message, &ready);
	CHECK(ready && message.too_large && message.length == 0 && message.id == 5);
	free(payload);
	forget_parts(reader);
	free(reader);
	free_bytes(&stream);
}

static void test_noise_is_survived(void)
{
	struct frame_reader *reader = calloc(1, sizeof *reader);
	unsigned seed = 1;
	for (int round = 0; round < 20000; round++) {
		uint8_t noise[64];
		for (size_t i = 0; i < sizeof noise; i++) {
			seed = seed * 1103515245 + 12345;
			noise[i] = (uint8_t)(seed >> 16);
		}
		noise[0] = FRAME_MAGIC_0;
		noise[1] = FRAME_MAGIC_1;
		store_u32(noise + 8, seed >> 16 & 127);
		struct message message;
		bool ready;
		for (size_t at = 0; at < sizeof noise;)
			at += feed_frame(reader, noise + at, sizeof noise - at, &message, &ready);
	}
	forget_parts(reader);
	free(reader);
}

static void test_fields(void)
{
	struct bytes out = { 0 };
	put_field_u32(&out, 1, 0x01020304);
	put_field_text(&out, 300, "text");
	put_field_u64(&out, 2, UINT64_MAX - 1);
	struct field_cursor cursor = fields_of(out.data, out.length);
	struct field field;
	CHECK(next_field(&cursor, &field) && field.tag == 1 && field_u32(&field) == 0x01020304 && field_u64(&field) == 0);
	CHECK(next_field(&cursor, &field) && field.tag == 300 && field.length == 4);
	char *text = field_text(&field);
	CHECK(strcmp(text, "text") == 0);
	free(text);
	CHECK(next_field(&cursor, &field) && field_u64(&field) == UINT64_MAX - 1);
	CHECK(!next_field(&cursor, &field) && !cursor.malformed);
	for (size_t cut = 1; cut < 10; cut++) {
		cursor = fields_of(out.data, cut);
		CHECK(!next_field(&cursor, &field) && cursor.malformed);
	}
	store_u32(out.data + 2, UINT32_MAX);
	cursor = fields_of(out.data, out.length);
	CHECK(!next_field(&cursor, &field) && cursor.malformed);
	free_bytes(&out);
}

static void test_ring(void)
{
	struct ring ring = { .size = 4096 };
	uint8_t chunk[1500];
	uint64_t written = 0, read = 0;
	CHECK(ring_prepare(&ring));
	for (int round = 0; round < 200; round++) {
		size_t count = (size_t)(round * 37 % 1500);
		for (size_t i = 0; i < count; i++)
			chunk[i] = (uint8_t)((written + i) % 251);
		CHECK(ring_room(&ring) >= count);
		ring_write(&ring, chunk, count);
		written += count;
		CHECK(ring.head == written);
		struct iovec pieces[2];
		int number = ring_pieces(&ring, ring.sent, pieces);
		uint64_t at = ring.sent;
		for (int i = 0; i < number; i++)
			for (size_t k = 0; k < pieces[i].iov_len; k++, at++)
				CHECK(((uint8_t *)pieces[i].iov_base)[k] == at % 251);
		CHECK(at == ring.head);
		ring.sent = ring.head;
		ring_rewind(&ring, 0);
		CHECK(ring.sent == ring.base);
		read = written - written % 2;
		ring_ack(&ring, read);
		ring_ack(&ring, written + 1); /* never produced: ignored */
		CHECK(ring.base == (read > 0 ? read : 0));
	}
	ring_free(&ring);
}

static FILE *text_file(const char *text)
{
	FILE *file = tmpfile();
	fputs(text, file);
	rewind(file);
	return file;
}

static void test_users(void)
{
	char error[256];
	struct identity *who = malloc(sizeof *who);
	char *long_line = malloc(40001);
	memset(long_line, 'x', 40000);
	long_line[40000] = '\0';
	FILE *passwd = text_file("# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1001::/home/alice:\n"
				 "nohome:x:7:8\nmax:x:4294967295:0::/:\n");
	FILE *group = text_file("root:x:0:\nalice:x:1001:\nwheel:x:10:root,alice\nal:x:11:alic,alices,balice\n");
	fseek(group, 0, SEEK_END);
	fprintf(group, "%s\naudio:x:29:alice\n", long_line);
	CHECK(find_identity(passwd, group, "", who, error, sizeof error) && who->uid == 0 && !strcmp(who->home, "/root"));
	CHECK(who->group_count == 1 && who->groups[0] == 10);
	CHECK(find_identity(passwd, group, "alice", who, error, sizeof error));
	CHECK(who->uid == 1000 && who->gid == 1001 && !strcmp(who->home, "/home/alice"));
	CHECK(who->group_count == 2 && who->groups[0] == 10 && who->groups[1] == 29);
	CHECK(find_identity(passwd, group, "1000", who, error, sizeof error) && who->gid == 1001);
	CHECK(find_identity(passwd, group, "alice:wheel", who, error, sizeof error));
	CHECK(who->gid == 10 && who->group_count == 0);
	CHECK(find_identity(passwd, group, "4242:77", who, error, sizeof error) && who->uid == 4242 && who->gid == 77);
	CHECK(!strcmp(who->home, "/"));
	CHECK(find_identity(passwd, group, "nohome", who, error, sizeof error) && !strcmp(who->home, "/"));
	CHECK(!find_identity(passwd, group, "bob", who, error, sizeof error));
	CHECK(!strcmp(error, "unable to find user bob: no matching entries in passwd file"));
	CHECK(!find_identity(passwd, group, "alice:none", who, error, sizeof error));
	CHECK(!strcmp(error, "unable to find group none: no matching entries in group file"));
	CHECK(!find_identity(passwd, group, "4294967295", who, error, sizeof error));
	CHECK(find_identity(NULL, NULL, "12:13", who, error, sizeof error) && who->uid == 12 && who->gid == 13);
	CHECK(add_group(group, "audio", who, error, sizeof error) && who->groups[0] == 29);
	CHECK(!add_group(group, "nosuch", who, error, sizeof error));
	char name[16];
	CHECK(find_user_name(passwd, 1000, name, sizeof name) && !strcmp(name, "alice"));
	CHECK(!find_user_name(passwd, 5, name, sizeof name));
	fclose(passwd);
	fclose(group);
	free(long_line);
	free(who);
}

int main(void)
{
	test_crc();
	test_frames_in_any_portions();
	test_every_cut_is_completed_by_zeros();
	test_messages_are_bounded();
	test_noise_is_survived();
	test_fields();
	test_ring();
	test_users();
	printf("guest unit tests: %d checks passed\n", checks);
	return 0;
}
