// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /dev/underlay makes calls for whoever opened it. That program counts as the
 * owner, for it may open the device; the memory of its calls is its own, for
 * the hypervisor walks its tables as for an access at privilege level 3. What
 * services are there is the hypervisor's to say: it refuses this way those for
 * kernels alone, which would keep pages of a program that has ended.
 */
#include "module.h"

#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

/*
 * How often a call is made again with a page brought in. A call names 36 pages
 * at most; the rest is for those that are swapped out again meanwhile. A page
 * that the program may not write is tried as often.
 */
#define TRIES_MAX 1000

static_assert(UNDERLAY_DEVICE_CALL == _IOWR('U', 0xf0, struct underlay_call));

/*
 * Brings in the page at an address of the program's. The hypervisor does not
 * say what for: a page that it wants again was not brought in for writing, which
 * without need would copy a page and mark a file's as changed. Or it was taken
 * away again meanwhile, which may happen to one that is never writable.
 */
static bool bring_in(u64 address, bool again)
{
	const char __user *page = (const char __user *)(uintptr_t)address;

	if (again && fault_in_safe_writeable(page, 1) == 0)
		return true;
	return fault_in_readable(page, 1) == 0;
}

/*
 * Makes the call until all its pages are there at once. A call that lacks one
 * has done nothing. Memory that is not there at all remains an error of the
 * call's.
 */
static int call_for_program(struct underlay_call *call)
{
	const u64 flags = UNDERLAY_MAY_FAULT | UNDERLAY_AS_PROGRAM;
	struct underlay_call asked = *call;
	u64 brought_in = 0;
	unsigned int tries;

	/* A fault at the instruction would be the kernel's own. */
	asked.rax = (asked.rax & ~flags) | UNDERLAY_AS_PROGRAM;
	for (tries = 0; tries < TRIES_MAX; tries++) {
		*call = asked;
		if (underlay_call(underlay_instruction, call) != -EFAULT)
			break;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (!bring_in(call->rbx, tries && call->rbx == brought_in))
			break;
		brought_in = call->rbx;
		cond_resched();
	}
	return 0;
}

static long underlay_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct underlay_call __user *place = (struct underlay_call __user *)argument;
	struct underlay_call call;
	int error;

	if (command != UNDERLAY_DEVICE_CALL)
		return -ENOTTY;
	if (copy_from_user(&call, place, sizeof(call)))
		return -EFAULT;
	error = call_for_program(&call);
	if (error)
		return error;
	return copy_to_user(place, &call, sizeof(call)) ? -EFAULT : 0;
}

/*
 * An owner reads and writes all memory, so it takes what /dev/mem takes: not
 * even root of a container, to whom somebody made such a node, is enough.
 */
static int underlay_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_RAWIO) ? 0 : -EPERM;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = underlay_open,
	.unlocked_ioctl = underlay_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "underlay",
	.fops = &operations,
	.mode = 0600,
};

int underlay_device_register(void)
{
	return misc_register(&device);
}

void underlay_device_unregister(void)
{
	misc_deregister(&device);
}
