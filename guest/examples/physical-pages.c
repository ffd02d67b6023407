/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A buffer by the list of its physical pages, which Linux tells to root alone.
 * Whoever names physical memory reaches all of it, so the service wants the
 * owner token, which Linux shows to root alone as well.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "underlay.h"

#define PAGE 4096
#define PAGES 3
/* The buffer begins within its first page and ends within its last. */
#define OFFSET 100
#define BYTES (2 * PAGE)

/* An entry of /proc/self/pagemap: Linux' documentation, "pagemap". */
#define FRAME ((1ull << 55) - 1)
#define PRESENT (1ull << 63)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void read_token(struct underlay_token *token)
{
	unsigned char table[UNDERLAY_TOKEN_TABLE_SIZE];
	FILE *file = fopen(UNDERLAY_TOKEN_PATH, "rb");

	if (!file)
		fail(UNDERLAY_TOKEN_PATH);
	if (!underlay_token_from(table, fread(table, 1, sizeof(table), file), token)) {
		fprintf(stderr, "%s holds no token\n", UNDERLAY_TOKEN_PATH);
		exit(1);
	}
	fclose(file);
}

/* The physical addresses of the pages at `memory`. */
static void find_pages(const char *memory, uint64_t list[PAGES])
{
	off_t place = (uintptr_t)memory / PAGE * sizeof(list[0]);
	int file = open("/proc/self/pagemap", O_RDONLY);
	int i;

	if (file < 0 || pread(file, list, PAGES * sizeof(list[0]), place) < 0)
		fail("/proc/self/pagemap");
	close(file);
	for (i = 0; i < PAGES; i++) {
		if (!(list[i] & PRESENT) || !(list[i] & FRAME)) {
			fprintf(stderr, "Linux does not tell where page %d is: are you root?\n", i);
			exit(1);
		}
		list[i] = (list[i] & FRAME) * PAGE;
	}
}

static void copy(uint32_t instruction, uint64_t service, const char *buffer,
		 const uint64_t list[PAGES], const struct underlay_token *token)
{
	struct underlay_call call = {
		.rax = service,
		.rbx = (uintptr_t)buffer,
		.rcx = (uintptr_t)list,
		.rdx = BYTES,
		.rsi = OFFSET,
	};

	if (underlay_call_as_owner(instruction, &call, token) != BYTES) {
		fprintf(stderr, "service %llu failed: %lld\n", (unsigned long long)service,
			(long long)call.rax);
		exit(1);
	}
}

int main(void)
{
	uint32_t instruction = underlay_find();
	static char other[BYTES];
	uint64_t list[PAGES], list_after[PAGES];
	struct underlay_token token;
	char *memory;
	int i;

	if (instruction == 0) {
		fprintf(stderr, "Underlay is not beneath this machine\n");
		return 1;
	}
	read_token(&token);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* A page that Linux swaps out would be somebody else's at the call. */
	if (memory == MAP_FAILED || mlock(memory, PAGES * PAGE) < 0)
		fail("locked memory");
	for (i = 0; i < PAGES * PAGE; i++)
		memory[i] = (char)(i * 7 / 3);
	find_pages(memory, list);

	copy(instruction, UNDERLAY_MEMORY_READ_PAGES, other, list, &token);
	printf("read by physical pages: %d bytes, %s\n", BYTES,
	       memcmp(other, memory + OFFSET, BYTES) ? "WRONG" : "all right");
	memset(other, 'u', BYTES);
	copy(instruction, UNDERLAY_MEMORY_WRITE_PAGES, other, list, &token);
	printf("written by physical pages: %d bytes, %s\n", BYTES,
	       memcmp(other, memory + OFFSET, BYTES) ? "WRONG" : "all right");

	/*
	 * Locked pages may still be moved, when Linux makes room for large ones.
	 * Who cannot look afterwards lets a driver pin them.
	 */
	find_pages(memory, list_after);
	printf("the pages %s meanwhile\n",
	       memcmp(list, list_after, sizeof(list)) ? "were MOVED" : "stayed where they were");
	return 0;
}
