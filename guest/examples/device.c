/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls by way of /dev/underlay, which the Linux module offers: who may open it
 * needs no token. Buffers are the program's own, absent pages included. An
 * address where nothing can be is an error of the call instead of a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "underlay.h"

#define ROOM UNDERLAY_TRANSFER_MAX

static int64_t call_by(int device, struct underlay_call *call)
{
	if (ioctl(device, UNDERLAY_DEVICE_CALL, call) < 0)
		return -errno;
	return (int64_t)call->rax;
}

/* Shows the last line that there is room for. */
static void show_last_line(const char *lines, size_t bytes)
{
	size_t start = bytes - 1;

	while (start > 0 && lines[start - 1] != '\n')
		start--;
	printf("its last line: %.*s\n", (int)(bytes - 1 - start), lines + start);
}

int main(void)
{
	int device = open(UNDERLAY_DEVICE, O_RDWR);
	struct underlay_call call = { .rax = UNDERLAY_LOG_READ, .rcx = ROOM };
	int64_t answer;
	char *lines;

	if (device < 0) {
		perror(UNDERLAY_DEVICE);
		return 1;
	}
	lines = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	call.rbx = (uintptr_t)lines;
	answer = call_by(device, &call);
	if (lines == MAP_FAILED || answer <= 0) {
		fprintf(stderr, "the log cannot be read: %s\n", strerror((int)-answer));
		return 1;
	}
	printf("log_read: lines 0 to %llu, %lld bytes\n", (unsigned long long)call.rbx - 1,
	       (long long)answer);
	show_last_line(lines, (size_t)answer);

	call.rax = UNDERLAY_LOG_READ;
	call.rbx = 0x10;
	call.rcx = ROOM;
	answer = call_by(device, &call);
	printf("into nothing: %s at 0x%llx\n", strerror((int)-answer),
	       (unsigned long long)call.rbx);

	call.rax = UNDERLAY_BUFFER_RELEASE;
	call.rbx = 1;
	answer = call_by(device, &call);
	printf("what is the kernel's: %s\n", strerror((int)-answer));
	close(device);
	return 0;
}
