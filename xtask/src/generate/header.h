/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0 */
/*
 * Calls to Underlay from C, in a program or in a Linux module.
 *
 * Made by `cargo xtask generate` from the tables in `abi`; docs/SERVICES.md is
 * made from the same and says more.
 */
#ifndef UNDERLAY_H
#define UNDERLAY_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

/* Version of the call interface. */
#define UNDERLAY_VERSION @VERSION@

/*
 * Added to a number by a kernel that wants a page fault instead of an error
 * where an argument's memory is not accessible. Programs get the fault always.
 */
#define UNDERLAY_MAY_FAULT @MAY_FAULT@u

/* The most bytes of a buffer that one call uses. */
#define UNDERLAY_TRANSFER_MAX @TRANSFER_MAX@

@SERVICES@

@RECORDS@

/* The registers of a call, and of its reply. */
struct underlay_call {
	/* The service's number; then its result or a negative errno. */
	uint64_t rax;
	/* Arguments 1 to 5; then results. */
	uint64_t rbx, rcx, rdx, rsi, rdi;
	/* The owner token, where a program has it. */
	uint64_t r8, r9;
};

static inline void underlay_cpuid(uint32_t leaf, uint32_t registers[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(registers[0]), "=b"(registers[1]),
			   "=c"(registers[2]), "=d"(registers[3])
			 : "a"(leaf), "c"(0));
}

/*
 * What a call needs: 0 if there is no Underlay of this version, else which
 * instruction it answers (@FEATURE_VMCALL@ VMCALL, @FEATURE_VMMCALL@ VMMCALL).
 */
static inline uint32_t underlay_find(void)
{
	uint32_t r[4];

	underlay_cpuid(@LEAF_SIGNATURE@, r);
	if (r[1] != @SIGNATURE_EBX@ || r[2] != @SIGNATURE_ECX@ || r[3] != @SIGNATURE_EDX@)
		return 0;
	underlay_cpuid(@LEAF_FEATURES@, r);
	if (r[0] != UNDERLAY_VERSION)
		return 0;
	return r[1] & (@FEATURE_VMCALL@ | @FEATURE_VMMCALL@);
}

/*
 * Calls with the instruction that underlay_find() named, which must not be 0:
 * a CPU without Underlay raises #UD. Returns RAX.
 */
static inline int64_t underlay_call(uint32_t instruction, struct underlay_call *call)
{
	register uint64_t r8 __asm__("r8") = call->r8;
	register uint64_t r9 __asm__("r9") = call->r9;

	if (instruction & @FEATURE_VMCALL@)
		__asm__ volatile("vmcall"
				 : "+a"(call->rax), "+b"(call->rbx), "+c"(call->rcx),
				   "+d"(call->rdx), "+S"(call->rsi), "+D"(call->rdi)
				 : "r"(r8), "r"(r9)
				 : "memory");
	else
		__asm__ volatile("vmmcall"
				 : "+a"(call->rax), "+b"(call->rbx), "+c"(call->rcx),
				   "+d"(call->rdx), "+S"(call->rsi), "+D"(call->rdi)
				 : "r"(r8), "r"(r9)
				 : "memory");
	return (int64_t)call->rax;
}

#endif
