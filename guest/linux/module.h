/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the parts of the module know of each other. */
#ifndef UNDERLAY_MODULE_H
#define UNDERLAY_MODULE_H

#define pr_fmt(format) KBUILD_MODNAME ": " format

#include "underlay.h"

/* The instruction of a call. Written once, before anything else of the module runs. */
extern u32 underlay_instruction;

/* A buffer of kernel memory that the hypervisor fills with lines of its log. */
int underlay_log_open(void);
void underlay_log_close(void);

/* /dev/underlay. */
int underlay_device_register(void);
void underlay_device_unregister(void);

#endif
