/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0 */
/*
 * Calls to Underlay from C or C++, in a program or in a Linux module.
 *
 *	uint32_t instruction = underlay_find();
 *	struct underlay_call call = { .rax = UNDERLAY_HELLO };
 *
 *	if (instruction)
 *		underlay_call(instruction, &call);
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

/* A record has the size that the hypervisor takes it to have. */
#define UNDERLAY_SIZE(record, bytes) \
	typedef char record##_has_its_size[sizeof(struct record) == (bytes) ? 1 : -1]

/* Version of the call interface. */
#define UNDERLAY_VERSION @VERSION@

/*
 * Added to a number by a kernel that wants a page fault instead of an error
 * where an argument's memory is not accessible. Programs get the fault always.
 */
#define UNDERLAY_MAY_FAULT @MAY_FAULT@u

/*
 * Added to a number by a kernel that calls in a program's name: the call
 * reaches the memory that the program reaches, and may do what the owner may.
 * Memory that is not accessible is -EFAULT with its address in RBX, for the
 * kernel to bring it in and to call again.
 */
#define UNDERLAY_AS_PROGRAM @AS_PROGRAM@u

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
};
UNDERLAY_SIZE(underlay_call, @DEVICE_CALL_SIZE@);

/*
 * The device of the Linux module. The ioctl takes a struct underlay_call and
 * makes the call for the program that opened the device, which needs no token.
 * Its registers are then those of the reply: a failed call is an ioctl that
 * succeeds, with a negative errno in rax. Memory that the program itself
 * cannot reach is -EFAULT there, with the address in rbx.
 */
#define UNDERLAY_DEVICE "@DEVICE@"
#define UNDERLAY_DEVICE_CALL @DEVICE_CALL@u

/* The owner token. Linux shows the ACPI table that holds it to root. */
struct underlay_token {
	uint64_t r8, r9;
};
#define UNDERLAY_TOKEN_PATH "@TOKEN_PATH@"
#define UNDERLAY_TOKEN_TABLE_SIZE @TOKEN_TABLE_SIZE@

/* Takes the token from the table. Returns 0 if it is not that table, else 1. */
static inline int underlay_token_from(const unsigned char *table, unsigned long bytes,
				      struct underlay_token *token)
{
	int i;

	if (bytes != UNDERLAY_TOKEN_TABLE_SIZE)
		return 0;
	for (i = 0; i < 4; i++) {
		if (table[i] != (unsigned char)"@TOKEN_TABLE@"[i])
			return 0;
	}
	token->r8 = 0;
	token->r9 = 0;
	for (i = 7; i >= 0; i--) {
		token->r8 = token->r8 << 8 | table[@TOKEN_AT@ + i];
		token->r9 = token->r9 << 8 | table[@TOKEN_AT@ + 8 + i];
	}
	return 1;
}

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
	if (r[0] < @LEAF_FEATURES@ || r[1] != @SIGNATURE_EBX@ ||
	    r[2] != @SIGNATURE_ECX@ || r[3] != @SIGNATURE_EDX@)
		return 0;
	underlay_cpuid(@LEAF_FEATURES@, r);
	if (r[0] != UNDERLAY_VERSION)
		return 0;
	return r[1] & (@FEATURE_VMCALL@ | @FEATURE_VMMCALL@);
}

#define UNDERLAY_EXECUTE(mnemonic, call, r8, r9)				\
	__asm__ volatile(mnemonic						\
			 : "+a"((call)->rax), "+b"((call)->rbx),		\
			   "+c"((call)->rcx), "+d"((call)->rdx),		\
			   "+S"((call)->rsi), "+D"((call)->rdi)			\
			 : "r"(r8), "r"(r9)					\
			 : "memory")

/*
 * Calls as the owner, with the instruction that underlay_find() named. It must
 * not be 0: a CPU without Underlay raises #UD. Returns RAX.
 */
static inline int64_t underlay_call_as_owner(uint32_t instruction, struct underlay_call *call,
					     const struct underlay_token *token)
{
	register uint64_t r8 __asm__("r8") = token->r8;
	register uint64_t r9 __asm__("r9") = token->r9;

	if (instruction & @FEATURE_VMCALL@)
		UNDERLAY_EXECUTE("vmcall", call, r8, r9);
	else
		UNDERLAY_EXECUTE("vmmcall", call, r8, r9);
	return (int64_t)call->rax;
}

#undef UNDERLAY_EXECUTE

/* Calls without a token, which opens nothing: as a kernel or as anybody. */
static inline int64_t underlay_call(uint32_t instruction, struct underlay_call *call)
{
	const struct underlay_token none = { 0, 0 };

	return underlay_call_as_owner(instruction, call, &none);
}

#endif
