// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A Linux module for a kernel that runs on Underlay. It shows a buffer of
 * kernel memory to the hypervisor by its physical pages and prints what came
 * back, and it makes calls for programs that may open /dev/underlay.
 */
#include "module.h"

#include <linux/errno.h>
#include <linux/module.h>
#include <linux/printk.h>

u32 underlay_instruction;

static int __init underlay_init(void)
{
	int error;

	underlay_instruction = underlay_find();
	if (!underlay_instruction) {
		pr_err("no Underlay with version %d of the call interface announces itself in CPUID\n",
		       UNDERLAY_VERSION);
		return -ENODEV;
	}
	error = underlay_log_open();
	if (error)
		return error;
	error = underlay_device_register();
	if (error)
		underlay_log_close();
	return error;
}

static void __exit underlay_exit(void)
{
	underlay_device_unregister();
	underlay_log_close();
}

module_init(underlay_init);
module_exit(underlay_exit);
MODULE_DESCRIPTION("Calls to the hypervisor Underlay");
MODULE_LICENSE("Dual MIT/GPL");
