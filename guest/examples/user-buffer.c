/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Buffers by their addresses in the program. The hypervisor uses them with the
 * program's own rights. They need not be touched or locked beforehand: where a
 * page is absent the call faults like any instruction, Linux brings the page
 * in, and the call runs again.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "underlay.h"

static int64_t ask_for_info(uint32_t instruction, struct underlay_info *info)
{
	struct underlay_call call = {
		.rax = UNDERLAY_INFO,
		.rbx = (uintptr_t)info,
		.rcx = sizeof(*info),
	};

	return underlay_call(instruction, &call);
}

static int64_t write_line(uint32_t instruction, const char *text)
{
	struct underlay_call call = { .rbx = (uintptr_t)"log_write" };
	int64_t number = underlay_call(instruction, &call);

	/* The number of a service is fixed, and may be asked for by its name. */
	if (number != UNDERLAY_LOG_WRITE)
		return -1;
	call.rax = (uint64_t)number;
	call.rbx = (uintptr_t)text;
	call.rcx = strlen(text);
	return underlay_call(instruction, &call);
}

int main(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint32_t instruction = underlay_find();
	struct underlay_info *info;
	char *pages;

	if (instruction == 0) {
		fprintf(stderr, "Underlay is not beneath this machine\n");
		return 1;
	}
	/* Two pages that do not exist yet; the record begins in the first. */
	pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	info = (struct underlay_info *)(pages + page - 16);
	if (ask_for_info(instruction, info) != sizeof(*info)) {
		fprintf(stderr, "info failed\n");
		return 1;
	}
	printf("info: Underlay %.*s on %s, %u CPU, %llu KiB of memory\n",
	       (int)sizeof(info->version), info->version,
	       info->vendor == 1 ? "VT-x" : "AMD-V", info->cpus,
	       (unsigned long long)info->memory / 1024);
	printf("log_write: %lld bytes\n",
	       (long long)write_line(instruction, "user-buffer writes a line"));
	return 0;
}
