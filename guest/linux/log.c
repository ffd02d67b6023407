// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A buffer of kernel memory that is contiguous for the kernel alone: the
 * hypervisor gets to know its physical pages once, and then fills it with
 * lines of its log whenever it is asked to.
 */
#include "module.h"

#include <linux/errno.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#define PAGES 4
#define BYTES (PAGES * PAGE_SIZE)
/* Others write lines meanwhile: following them has an end. */
#define FILLS_MAX 256

static unsigned int lines = 5;
module_param(lines, uint, 0444);
MODULE_PARM_DESC(lines, "how many of the newest lines of the hypervisor's log loading shows (5)");

static char *buffer;
static u64 handle;

static int share(void)
{
	u64 pages[PAGES];
	struct underlay_call call = {
		.rax = UNDERLAY_BUFFER_SHARE,
		.rbx = (uintptr_t)pages,
		.rcx = BYTES,
	};
	unsigned int page;

	for (page = 0; page < PAGES; page++)
		pages[page] = page_to_phys(vmalloc_to_page(buffer + page * PAGE_SIZE));
	if (underlay_call(underlay_instruction, &call) < 0)
		return (int)call.rax;
	handle = call.rax;
	return 0;
}

/* Whether the hypervisor has forgotten the pages. */
static bool release(void)
{
	struct underlay_call call = {
		.rax = UNDERLAY_BUFFER_RELEASE,
		.rbx = handle,
	};

	return underlay_call(underlay_instruction, &call) == 0;
}

static void write_line(const char *text)
{
	struct underlay_call call = {
		.rax = UNDERLAY_LOG_WRITE,
		.rbx = (uintptr_t)text,
		.rcx = strlen(text),
	};

	/* Who writes too often is refused, and that is no reason to fail. */
	underlay_call(underlay_instruction, &call);
}

/*
 * Fills the buffer until it holds the newest lines. Returns their bytes or a
 * negative errno.
 */
static s64 fill_with_newest(void)
{
	struct underlay_call call = { .rcx = 0 };
	unsigned int fills;
	s64 bytes = 0;

	for (fills = 0; fills < FILLS_MAX; fills++) {
		call.rax = UNDERLAY_LOG_FILL;
		/* RBX returned the line to go on with. */
		call.rcx = fills ? call.rbx : 0;
		call.rbx = handle;
		if (underlay_call(underlay_instruction, &call) <= 0)
			break;
		bytes = (s64)call.rax;
	}
	return (s64)call.rax < 0 ? (s64)call.rax : bytes;
}

/* The first byte of the last lines that are shown. */
static size_t first_shown(size_t bytes)
{
	unsigned int ends = 0;

	while (bytes > 0) {
		if (buffer[bytes - 1] == '\n' && ends++ == lines)
			break;
		bytes--;
	}
	return bytes;
}

static void print(size_t bytes)
{
	size_t at = first_shown(bytes);

	pr_info("the hypervisor filled %zu bytes of %d physical pages; the newest lines are:\n",
		bytes, PAGES);
	while (at < bytes) {
		const char *end = memchr(buffer + at, '\n', bytes - at);
		size_t length = end ? end - (buffer + at) : bytes - at;

		pr_info("| %.*s\n", (int)length, buffer + at);
		at += length + 1;
	}
}

int underlay_log_open(void)
{
	s64 bytes;
	int error;

	buffer = vmalloc(BYTES);
	if (!buffer)
		return -ENOMEM;
	error = share();
	if (error) {
		pr_err("the hypervisor does not take a buffer: error %d\n", error);
		vfree(buffer);
		return error;
	}
	write_line("the module is loaded");
	bytes = fill_with_newest();
	if (bytes < 0) {
		pr_err("the hypervisor does not fill the buffer: error %lld\n", bytes);
		underlay_log_close();
		return (int)bytes;
	}
	print(bytes);
	return 0;
}

void underlay_log_close(void)
{
	/* Pages that the hypervisor may write are never given back. */
	if (release())
		vfree(buffer);
	else
		pr_err("the hypervisor keeps the buffer, which is lost\n");
}
