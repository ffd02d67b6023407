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
#define UNDERLAY_VERSION 1

/*
 * Added to a number by a kernel that wants a page fault instead of an error
 * where an argument's memory is not accessible. Programs get the fault always.
 */
#define UNDERLAY_MAY_FAULT 0x80000000u

/*
 * Added to a number by a kernel that calls in a program's name: the call
 * reaches the memory that the program reaches, and may do what the owner may.
 * Memory that is not accessible is -EFAULT with its address in RBX, for the
 * kernel to bring it in and to call again.
 */
#define UNDERLAY_AS_PROGRAM 0x40000000u

/* The most bytes of a buffer that one call uses. */
#define UNDERLAY_TRANSFER_MAX 65536

/*
 * resolve, for any: gives the number of a service by its name.
 *   takes RBX name: the name, at most 255 bytes and a NUL
 *   returns RAX number: its number, or 0 if there is no such service
 */
#define UNDERLAY_RESOLVE 0

/*
 * ping, for any: returns the version of the call interface.
 *   returns RAX version: the version
 */
#define UNDERLAY_PING 1

/*
 * hello, for any: writes a logo and a greeting to the log, which is left alone if that is done too often, and counts the greetings.
 *   returns RAX greetings: greetings so far
 */
#define UNDERLAY_HELLO 2

/*
 * print, for any: prints a byte to the log, which shows whole lines, if the config says print = on.
 *   takes RBX byte: the byte
 *   returns RAX zero: 0
 */
#define UNDERLAY_PRINT 3

/*
 * statistics, for owner: writes to the log what the exits of a CPU cost, some lines a call; no such CPU is -EINVAL.
 *   takes RBX line: 0, or the line to go on with
 *   takes RCX cpu: the CPU's number, counted from 0
 *   returns RAX next: the number of the next line, or 0 at the end
 */
#define UNDERLAY_STATISTICS 4

/*
 * trace, for owner: switches the trace of a CPU's exits, or writes it to the log's port; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL.
 *   takes RBX command: 0 stops it, 1 starts it, 2 writes some of its records
 *   takes RCX cpu: the CPU's number, counted from 0
 *   returns RAX left: records that are still to be written
 */
#define UNDERLAY_TRACE 5

/*
 * info, for any: tells what there is beneath.
 *   takes RBX buffer: where an `underlay_info` is written
 *   takes RCX bytes: the room there
 *   returns RAX size: the size of the whole record, of which as much was written as there was room
 */
#define UNDERLAY_INFO 6

/*
 * list, for any: tells which services there are.
 *   takes RBX buffer: where records `underlay_service` are written
 *   takes RCX bytes: the room there
 *   takes RDX first: the first service to tell of, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many services there are
 */
#define UNDERLAY_LIST 7

/*
 * memory_copy, for any: copies between two buffers of the caller's, with its own rights.
 *   takes RBX into: where to
 *   takes RCX from: where from
 *   takes RDX bytes: how many
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_COPY 8

/*
 * memory_read_physical, for owner: copies guest-physical memory into the caller's buffer.
 *   takes RBX buffer: where to
 *   takes RCX from: where from
 *   takes RDX bytes: how many
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_READ_PHYSICAL 9

/*
 * memory_write_physical, for owner: copies the caller's buffer into guest-physical memory.
 *   takes RBX buffer: where from
 *   takes RCX into: where to
 *   takes RDX bytes: how many
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_WRITE_PHYSICAL 10

/*
 * memory_read_pages, for owner: copies a list of guest-physical pages into the caller's buffer.
 *   takes RBX buffer: where to
 *   takes RCX list: the pages' guest-physical addresses in their order, 8 bytes each
 *   takes RDX bytes: how many
 *   takes RSI offset: where in the first page they begin
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_READ_PAGES 11

/*
 * memory_write_pages, for owner: copies the caller's buffer into a list of guest-physical pages.
 *   takes RBX buffer: where from
 *   takes RCX list: the pages' guest-physical addresses in their order, 8 bytes each
 *   takes RDX bytes: how many
 *   takes RSI offset: where in the first page they begin
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_WRITE_PAGES 12

/*
 * memory_read_space, for owner: copies from another address space into the caller's buffer, as a kernel there could read it; what is absent there is -EFAULT.
 *   takes RBX buffer: where to
 *   takes RCX from: where from, a linear address there
 *   takes RDX bytes: how many
 *   takes RSI root: the address space, as CR3 would hold it; the paging mode is the caller's
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_READ_SPACE 13

/*
 * memory_write_space, for owner: copies the caller's buffer into another address space, as a kernel there could write it; what is absent or read-only there is -EFAULT.
 *   takes RBX buffer: where from
 *   takes RCX into: where to, a linear address there
 *   takes RDX bytes: how many
 *   takes RSI root: the address space, as CR3 would hold it; the paging mode is the caller's
 *   returns RAX done: how many were copied
 */
#define UNDERLAY_MEMORY_WRITE_SPACE 14

/*
 * memory_translate, for owner: gives the guest-physical address of a linear one, as a kernel there could read it; what is absent there is -EFAULT.
 *   takes RBX address: the linear address
 *   takes RCX root: the address space, as CR3 would hold it; the paging mode is the caller's
 *   returns RAX physical: where it lies
 *   returns RBX left: how many bytes of its page begin there
 */
#define UNDERLAY_MEMORY_TRANSLATE 15

/*
 * log_read, for owner: reads whole lines of the log; a buffer in which not even the first fits is -EINVAL.
 *   takes RBX buffer: where to
 *   takes RCX bytes: the room there
 *   takes RDX line: the first line's number, counted from 0
 *   returns RAX done: how many bytes were written; each line ends with a newline
 *   returns RBX next: the number of the line to go on with
 *   returns RCX lost: lines before it that were overwritten unread
 */
#define UNDERLAY_LOG_READ 16

/*
 * log_write, for any: writes a line into the log, marked with who wrote it; who does it too often gets -EAGAIN.
 *   takes RBX text: the line
 *   takes RCX bytes: its length; at most 200 are used
 *   returns RAX done: how many were used
 */
#define UNDERLAY_LOG_WRITE 17

/*
 * log_level, for owner: sets how important a line of the log must be.
 *   takes RBX level: 0 nothing is logged, 1 errors, 2 and warnings, 3 and what is worth knowing, 4 and what an engineer asks for, 5 everything
 *   returns RAX before: what it was
 */
#define UNDERLAY_LOG_LEVEL 18

/*
 * statistics_read, for owner: tells what the exits of a CPU cost; no such CPU is -EINVAL.
 *   takes RBX buffer: where records `underlay_exits` are written, one for each kind of exit
 *   takes RCX bytes: the room there
 *   takes RDX first: the first kind to tell of, counted from 0
 *   takes RSI cpu: the CPU's number, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many kinds there are
 *   returns RCX cpu: the CPU
 */
#define UNDERLAY_STATISTICS_READ 19

/*
 * oddities_read, for owner: tells how often the guest did what no ordinary system does.
 *   takes RBX buffer: where records `underlay_oddity` are written, one for each kind
 *   takes RCX bytes: the room there
 *   takes RDX first: the first kind to tell of, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many kinds there are
 */
#define UNDERLAY_ODDITIES_READ 20

/*
 * statistics_reset, for owner: makes all that is counted of a CPU's exits 0; no such CPU is -EINVAL.
 *   takes RBX cpu: the CPU's number, counted from 0
 *   returns RAX exits: how many exits had been counted
 */
#define UNDERLAY_STATISTICS_RESET 21

/*
 * trace_read, for owner: reads the trace of a CPU's exits; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL.
 *   takes RBX buffer: where records `underlay_trace` are written
 *   takes RCX bytes: the room there
 *   takes RDX record: the first record's number, counted from 0
 *   takes RSI cpu: the CPU's number, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX next: the number of the record to go on with
 *   returns RCX lost: records before it that were overwritten unread
 */
#define UNDERLAY_TRACE_READ 22

/*
 * trace_switch, for owner: starts or stops the trace of a CPU's exits; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL.
 *   takes RBX on: 1 starts it, 0 stops it
 *   takes RCX cpu: the CPU's number, counted from 0
 *   returns RAX before: what it was
 */
#define UNDERLAY_TRACE_SWITCH 23

/*
 * buffer_share, for kernel: keeps a list of guest-physical pages as a buffer for further calls; after 8 of them it is -ENOSPC.
 *   takes RBX list: the pages' guest-physical addresses in their order, 8 bytes each
 *   takes RCX bytes: how long the buffer is; more than one call uses is -EINVAL
 *   takes RDX offset: where in the first page it begins
 *   returns RAX handle: its number, from 1 on
 */
#define UNDERLAY_BUFFER_SHARE 24

/*
 * buffer_release, for kernel: forgets a buffer, whose pages may then be used for something else.
 *   takes RBX handle: the buffer
 *   returns RAX zero: 0
 */
#define UNDERLAY_BUFFER_RELEASE 25

/*
 * log_fill, for kernel: reads whole lines of the log into a shared buffer; one in which not even the first fits is -EINVAL.
 *   takes RBX handle: the buffer
 *   takes RCX line: the first line's number, counted from 0
 *   returns RAX done: how many bytes were written; each line ends with a newline
 *   returns RBX next: the number of the line to go on with
 *   returns RCX lost: lines before it that were overwritten unread
 */
#define UNDERLAY_LOG_FILL 26

/*
 * shell_open, for owner: begins a session of the debug shell; of more than 8 the one that was used longest ago ends.
 *   returns RAX handle: the session
 */
#define UNDERLAY_SHELL_OPEN 27

/*
 * shell_line, for owner: runs a line in a session of the debug shell; no such session is -EINVAL.
 *   takes RBX handle: the session
 *   takes RCX line: the line
 *   takes RDX bytes: its length, of at most 120; 0 goes on with the text of the last line, which any other line cuts off
 *   takes RSI buffer: where to put the text
 *   takes RDI room: the room there; at most 4096 are used
 *   returns RAX done: how much text there is
 *   returns RBX more: 1 if there is more to come, else 0
 *   returns RCX ended: 1 if the line ended the session, else 0
 */
#define UNDERLAY_SHELL_LINE 28

/*
 * shell_close, for owner: ends a session of the debug shell.
 *   takes RBX handle: the session
 *   returns RAX zero: 0
 */
#define UNDERLAY_SHELL_CLOSE 29

/*
 * dbgsh, for compat: is the debug shell as BitVisor's clients know it, a byte at a time.
 *   takes RBX byte: in 32 bits: what was typed where the shell waited for it, or 0x100 for a NUL; 0 where it had given a byte, which is taken; -1 changes nothing
 *   returns RAX byte: a byte to show; 0x10a is the newline behind the end; 0: the shell waits for a byte
 */
#define UNDERLAY_DBGSH 30

/*
 * log_set_buf, for kernel: has each line of the log that comes copied into a buffer, as BitVisor's clients know it; what is no memory of the guest's, or of no use, is -EINVAL.
 *   takes RBX buffer: 32 bits that count bytes written less bytes read, then a ring of text; a multiple of 4, or 0: none any more
 *   takes RCX bytes: its size with the count, of at most 1 MiB; 0: none any more
 *   returns RAX zero: 0
 */
#define UNDERLAY_LOG_SET_BUF 31

/*
 * get_status, for compat: tells what there is beneath in text for people, as BitVisor's clients know it.
 *   takes RBX buffer: where to put the text
 *   takes RCX room: the room there
 *   returns RAX missing: 0, or 1 if it does not fit and was not written
 *   returns RBX unchanged: the buffer
 *   returns RCX bytes: how long the text is; no NUL follows it
 */
#define UNDERLAY_GET_STATUS 32

/*
 * cpus_read, for owner: tells which CPUs there are, by which number each is known to the other services, and what it does.
 *   takes RBX buffer: where records `underlay_cpu` are written, one for each CPU
 *   takes RCX bytes: the room there
 *   takes RDX first: the first CPU to tell of, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many CPUs there are
 *   returns RCX here: the number of the CPU that calls
 */
#define UNDERLAY_CPUS_READ 33

/*
 * vm_create, for owner: makes a child, a VM that a program of the owner's runs; without `pool` in the config it is -ENOSYS.
 *   takes RBX name: its name, which no other child may have
 *   takes RCX bytes: the name's length, of at most 32
 *   returns RAX handle: its handle, which is a secret of the program's
 *   returns RBX number: the number by which `vm_list` tells of it
 */
#define UNDERLAY_VM_CREATE 34

/*
 * vm_destroy, for owner: ends a child and takes back all that it has; one that runs at this moment is -EBUSY, and does not run again.
 *   takes RBX child: its handle, or its number
 *   returns RAX zero: 0
 */
#define UNDERLAY_VM_DESTROY 35

/*
 * vm_list, for owner: tells which children there are.
 *   takes RBX buffer: where records `underlay_vm` are written
 *   takes RCX bytes: the room there
 *   takes RDX first: the first child to tell of, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many children there are
 */
#define UNDERLAY_VM_LIST 36

/*
 * vm_query, for owner: tells of one child.
 *   takes RBX handle: the child
 *   takes RCX buffer: where an `underlay_vm` is written
 *   takes RDX bytes: the room there
 *   returns RAX size: the size of the whole record, of which as much was written as there was room
 */
#define UNDERLAY_VM_QUERY 37

/*
 * vm_memory, for owner: gives a child some more of the pool, full of zeros; it sees none of it before it is mapped.
 *   takes RBX handle: the child
 *   returns RAX address: where the program finds it
 *   returns RBX bytes: how much it is
 */
#define UNDERLAY_VM_MEMORY 38

/*
 * vm_map, for owner: lets a child see memory that it was given, or no longer see what is there.
 *   takes RBX handle: the child
 *   takes RCX at: the child's own physical address, a multiple of a page
 *   takes RDX from: where the memory is, a multiple of a page
 *   takes RSI bytes: how much, a multiple of a page
 *   takes RDI rights: 1 it may read, added: 2 write, 4 execute; 0: it sees nothing there
 *   returns RAX done: how many were done; the rest needs another call
 */
#define UNDERLAY_VM_MAP 39

/*
 * vm_vcpu, for owner: gives a child another vCPU, in the state after a reset.
 *   takes RBX handle: the child
 *   returns RAX vcpu: its number, counted from 0
 */
#define UNDERLAY_VM_VCPU 40

/*
 * vm_registers_read, for owner: reads the registers of a vCPU that does not run.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   takes RDX buffer: where an `underlay_vm_registers` is written
 *   returns RAX zero: 0
 */
#define UNDERLAY_VM_REGISTERS_READ 41

/*
 * vm_registers_write, for owner: sets the registers of a vCPU that does not run, which then forgets an exit that waits for an answer.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   takes RDX buffer: an `underlay_vm_registers`
 *   returns RAX zero: 0
 */
#define UNDERLAY_VM_REGISTERS_WRITE 42

/*
 * vm_run, for owner: runs a vCPU on this CPU until it needs its program, or the CPU is wanted.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   takes RDX entry: an `underlay_vm_entry`, which is read once, before it runs
 *   takes RSI exit: where an `underlay_vm_exit` is written, after it ran
 *   returns RAX kind: the kind of the exit, as in the record
 */
#define UNDERLAY_VM_RUN 43

/*
 * vm_inject, for owner: raises an event in a vCPU that does not run, when it is entered next; one that cannot take it is -EBUSY.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   takes RDX event: the event, as in `underlay_vm_entry`
 *   takes RSI error: its error code
 *   returns RAX zero: 0
 */
#define UNDERLAY_VM_INJECT 44

/*
 * vm_records, for owner: keeps the records of a vCPU's turns in memory that its child was given, where its program finds them.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   takes RDX page: a page, which the child need not see: an `underlay_vm_entry` lies at its beginning, and an `underlay_vm_exit` 2048 bytes behind that
 *   returns RAX zero: 0
 */
#define UNDERLAY_VM_RECORDS 45

/*
 * vm_turn, for owner: is `vm_run` with the records of `vm_records`, and the cheapest way to run a vCPU.
 *   takes RBX handle: the child
 *   takes RCX vcpu: the vCPU
 *   returns RAX kind: the kind of the exit, as in the record
 */
#define UNDERLAY_VM_TURN 46

/*
 * vm_statistics, for owner: tells what the exits of a child's vCPU cost since it was made, also while it runs; no such child or vCPU is -ENOENT.
 *   takes RBX child: its handle, or its number
 *   takes RCX vcpu: the vCPU
 *   takes RDX buffer: where records `underlay_exits` are written, one for each kind of exit
 *   takes RSI bytes: the room there
 *   takes RDI first: the first kind to tell of, counted from 0
 *   returns RAX written: how many records were written
 *   returns RBX all: how many kinds there are
 */
#define UNDERLAY_VM_STATISTICS 47

/* What there is beneath, as `info` tells it. */
struct underlay_info {
	/* Version of the call interface. */
	uint32_t abi;
	/* Whose hardware virtualises: 1 Intel VT-x, 2 AMD-V. */
	uint32_t vendor;
	/* 1 VMCALL is the instruction, 2 VMMCALL is; added: 4 the guest may print, 8 exits can be traced. */
	uint32_t features;
	/* CPUs that Underlay handles. */
	uint32_t cpus;
	/* Bytes of memory that Underlay keeps to itself. */
	uint64_t memory;
	/* Bytes of these that are in use. */
	uint64_t used;
	/* The time-stamp counter's ticks a second. */
	uint64_t ticks_per_second;
	/* Version of the hypervisor. */
	char version[32];
};
UNDERLAY_SIZE(underlay_info, 72);

/* A service, as `list` tells of it. */
struct underlay_service {
	/* Its number. */
	uint32_t number;
	/* Who may call it: 0 any, 1 kernel, 2 owner. */
	uint32_t who;
	/* How many arguments it takes. */
	uint32_t arguments;
	/* How many results it returns. */
	uint32_t results;
	/* Its name. */
	char name[48];
	/* What it does. */
	char sentence[192];
};
UNDERLAY_SIZE(underlay_service, 256);

/* The exits of one kind, as `statistics_read` and `vm_statistics` tell of them. Times are the ticks from an exit to the next entry. */
struct underlay_exits {
	/* The kind's name. */
	char kind[24];
	/* How many there were. */
	uint64_t count;
	/* What they took together. */
	uint64_t total;
	/* What the longest took. */
	uint64_t most;
	/* How their times are spread: bucket n counts what took 2^n to 2^(n+1) - 1 ticks, the first also what took none, the last whatever took longer. */
	uint64_t buckets[32];
};
UNDERLAY_SIZE(underlay_exits, 304);

/* Something odd, as `oddities_read` tells of it. */
struct underlay_oddity {
	/* Its name. */
	char name[40];
	/* How often it happened. */
	uint64_t count;
};
UNDERLAY_SIZE(underlay_oddity, 48);

/* A CPU, as `cpus_read` tells of it. */
struct underlay_cpu {
	/* Its number, counted from 0: 0 is the one on which the loader ran. */
	uint32_t number;
	/* The number of its local APIC, by which an operating system knows it. */
	uint32_t apic;
	/* What it does: 0 it runs, 1 it waits for a start-up IPI, 2 it has got a signal that it has yet to take up. */
	uint32_t state;
	/* Whether its exits are recorded: 0 there is no room for them, 1 not at the moment, 2 they are. */
	uint32_t trace;
	/* How many exits are counted. */
	uint64_t exits;
};
UNDERLAY_SIZE(underlay_cpu, 24);

/* An exit, as `trace_read` tells of it. */
struct underlay_trace {
	/* Its number on this CPU, without gaps but for what was lost. */
	uint64_t number;
	/* Time-stamp counter after the exit. */
	uint64_t begin;
	/* Time-stamp counter before the next entry. */
	uint64_t end;
	/* RIP at the exit. */
	uint64_t rip;
	/* What the exit carried. */
	uint64_t payload[2];
	/* The kind's name. */
	char kind[24];
	/* The word with which it was answered. */
	char outcome[12];
	/* The CPU. */
	uint32_t cpu;
	/* The number of the child that exited, 0: it was the guest. */
	uint32_t child;
	/* Which of the child's vCPUs it was. */
	uint32_t vcpu;
};
UNDERLAY_SIZE(underlay_trace, 96);

/* A child, as `vm_list` and `vm_query` tell of it. */
struct underlay_vm {
	/* Its number, which no other child had or will have. */
	uint64_t number;
	/* Bytes of the pool that it has. */
	uint64_t memory;
	/* How many vCPUs it has. */
	uint32_t vcpus;
	/* 1 if one of them runs at this moment, else 0. */
	uint32_t running;
	/* Its name. */
	char name[32];
};
UNDERLAY_SIZE(underlay_vm, 56);

/* What a program says when it has a vCPU run: the answer to the last exit, and what is to happen before the vCPU goes on. */
struct underlay_vm_entry {
	/* Added: 1 the last exit is answered by `values`, 2 it is answered by a general-protection fault, 4 `event` is raised, 8 the exit `window` comes when the vCPU can take an interrupt, 16 CPUID exits, 32 MSRs that the child may not use exit, 64 the vCPU does not go on but for what the answer asks. */
	uint32_t flags;
	/* Bits 0 to 7 the vector, 8 to 10 the type (0 interrupt, 2 NMI, 3 exception), 11 an error code comes with it; all others 0. */
	uint32_t event;
	/* The error code. */
	uint32_t error;
	/* 0. */
	uint32_t zero;
	/* A port's, register's or MSR's value, or a call's RAX; of CPUID, EAX, EBX, ECX, EDX. */
	uint64_t values[4];
};
UNDERLAY_SIZE(underlay_vm_entry, 48);

/* What a vCPU needs its program for. */
struct underlay_vm_exit {
	/* 1 port, 2 memory, 3 call, 4 cpuid, 5 msr, 6 halt, 7 shutdown, 8 interrupted, 9 window, 10 entry failed, 11 other. */
	uint32_t kind;
	/* Added: 1 it reads and wants an answer, 2 of a string instruction, 4 of a repeated one, 8 the vCPU can take an interrupt now, 16 an event is due already, 32 the entry's event could not be raised and the vCPU did not go on. */
	uint32_t flags;
	/* Bytes of the access: 1, 2, 4 or 8. */
	uint32_t size;
	/* The port, or the MSR's number. */
	uint32_t port;
	/* The child's physical address; of an entry that failed and of other exits, the reason. */
	uint64_t address;
	/* What is written; a call's RAX; CPUID's EAX; of an entry that failed and of other exits, what the CPU says beside. */
	uint64_t data;
	/* Where the vCPU goes on. */
	uint64_t rip;
	/* A call's RBX, RCX, RDX, RSI and RDI; of CPUID, ECX, and EAX, EBX, ECX and EDX as they would be answered if the program had not asked; of other exits they mean nothing. */
	uint64_t values[5];
};
UNDERLAY_SIZE(underlay_vm_exit, 80);

/* The registers of a vCPU. Arrays of segments are in the order ES, CS, SS, DS, FS, GS, LDTR, TR. */
struct underlay_vm_registers {
	/* RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15. */
	uint64_t general[16];
	/* RIP. */
	uint64_t rip;
	/* RFLAGS. */
	uint64_t rflags;
	/* CR0. */
	uint64_t cr0;
	/* CR2. */
	uint64_t cr2;
	/* CR3. */
	uint64_t cr3;
	/* CR4. */
	uint64_t cr4;
	/* EFER. */
	uint64_t efer;
	/* The segments' selectors. */
	uint64_t selectors[8];
	/* Their bases. */
	uint64_t bases[8];
	/* Their limits in bytes. */
	uint64_t limits[8];
	/* Their access rights: bits 8 to 15 and 20 to 23 of the descriptor, moved down by 8; bit 16: unusable. */
	uint64_t rights[8];
	/* GDTR's base. */
	uint64_t gdt_base;
	/* Its limit. */
	uint64_t gdt_limit;
	/* IDTR's base. */
	uint64_t idt_base;
	/* Its limit. */
	uint64_t idt_limit;
	/* DR0 to DR3, DR6, DR7. */
	uint64_t debug[6];
	/* STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE. */
	uint64_t system_call[5];
	/* IA32_SYSENTER_CS, ESP, EIP. */
	uint64_t system_enter[3];
	/* XCR0. */
	uint64_t xcr0;
};
UNDERLAY_SIZE(underlay_vm_registers, 592);

/* The registers of a call, and of its reply. */
struct underlay_call {
	/* The service's number; then its result or a negative errno. */
	uint64_t rax;
	/* Arguments 1 to 5; then results. */
	uint64_t rbx, rcx, rdx, rsi, rdi;
};
UNDERLAY_SIZE(underlay_call, 48);

/*
 * The device of the Linux module. The ioctl takes a struct underlay_call and
 * makes the call for the program that opened the device, which needs no token.
 * Its registers are then those of the reply: a failed call is an ioctl that
 * succeeds, with a negative errno in rax. Memory that the program itself
 * cannot reach is -EFAULT there, with the address in rbx.
 */
#define UNDERLAY_DEVICE "/dev/underlay"
#define UNDERLAY_DEVICE_CALL 0xc03055f0u

/* The owner token. Linux shows the ACPI table that holds it to root. */
struct underlay_token {
	uint64_t r8, r9;
};
#define UNDERLAY_TOKEN_PATH "/sys/firmware/acpi/tables/ULAY"
#define UNDERLAY_TOKEN_TABLE_SIZE 52

/* Takes the token from the table. Returns 0 if it is not that table, else 1. */
static inline int underlay_token_from(const unsigned char *table, unsigned long bytes,
				      struct underlay_token *token)
{
	int i;

	if (bytes != UNDERLAY_TOKEN_TABLE_SIZE)
		return 0;
	for (i = 0; i < 4; i++) {
		if (table[i] != (unsigned char)"ULAY"[i])
			return 0;
	}
	token->r8 = 0;
	token->r9 = 0;
	for (i = 7; i >= 0; i--) {
		token->r8 = token->r8 << 8 | table[36 + i];
		token->r9 = token->r9 << 8 | table[36 + 8 + i];
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
 * instruction it answers (1 VMCALL, 2 VMMCALL).
 */
static inline uint32_t underlay_find(void)
{
	uint32_t r[4];

	underlay_cpuid(0x40000000, r);
	if (r[0] < 0x40000001 || r[1] != 0x65646e55 ||
	    r[2] != 0x79616c72 || r[3] != 0x5648)
		return 0;
	underlay_cpuid(0x40000001, r);
	if (r[0] != UNDERLAY_VERSION)
		return 0;
	return r[1] & (1 | 2);
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

	if (instruction & 1)
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
