//! Every service, in one table: the constants, the reference page, the C header
//! and what `list` shows all come from it.

use super::{Kind, Service, Value, Who};

/// `NUMBER NAME "name" Who "what it does" (arguments) -> (results)`, each with
/// its kind and its sentence.
macro_rules! services {
    ($($number:literal $constant:ident $name:literal $who:ident $sentence:literal
        ($($argument:ident: $takes:ident $means:literal),*) ->
        ($($result:ident: $gives:ident $says:literal),*);)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $sentence, ".")]
            pub const $constant: u64 = $number;
        )*

        /// Every service of this version, in the order of their numbers.
        pub const SERVICES: &[Service] = &[$(Service {
            number: $constant,
            name: $name,
            who: Who::$who,
            sentence: $sentence,
            arguments: &[$(Value {
                name: stringify!($argument),
                kind: Kind::$takes,
                sentence: $means,
            }),*],
            results: &[$(Value {
                name: stringify!($result),
                kind: Kind::$gives,
                sentence: $says,
            }),*],
        }),*];
    };
}

/// Gives all rows to the macro `then`, so that what is made for each service
/// is made from the same table.
#[macro_export]
macro_rules! with_services {
    ($then:ident) => { $then! {
    0 RESOLVE "resolve" Any
        "gives the number of a service by its name"
        (name: Gva "the name, at most 255 bytes and a NUL") ->
        (number: Number "its number, or 0 if there is no such service");
    1 PING "ping" Any
        "returns the version of the call interface"
        () ->
        (version: Number "the version");
    2 HELLO "hello" Any
        "writes a logo and a greeting to the log, which is left alone if that is done too often, and counts the greetings"
        () ->
        (greetings: Number "greetings so far");
    3 PRINT "print" Any
        "prints a byte to the log, which shows whole lines, if the config says print = on"
        (byte: Number "the byte") ->
        (zero: Number "0");
    4 STATISTICS "statistics" Owner
        "writes to the log what the exits of a CPU cost, some lines a call; no such CPU is -EINVAL"
        (line: Number "0, or the line to go on with", cpu: Number "the CPU's number, counted from 0") ->
        (next: Number "the number of the next line, or 0 at the end");
    5 TRACE "trace" Owner
        "switches the trace of a CPU's exits, or writes it to the log's port; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL"
        (command: Number "0 stops it, 1 starts it, 2 writes some of its records",
         cpu: Number "the CPU's number, counted from 0") ->
        (left: Number "records that are still to be written");
    6 INFO "info" Any
        "tells what there is beneath"
        (buffer: Gva "where an `underlay_info` is written", bytes: Bytes "the room there") ->
        (size: Bytes "the size of the whole record, of which as much was written as there was room");
    7 LIST "list" Any
        "tells which services there are"
        (buffer: Gva "where records `underlay_service` are written",
         bytes: Bytes "the room there",
         first: Number "the first service to tell of, counted from 0") ->
        (written: Number "how many records were written", all: Number "how many services there are");
    8 MEMORY_COPY "memory_copy" Any
        "copies between two buffers of the caller's, with its own rights"
        (into: Gva "where to", from: Gva "where from", bytes: Bytes "how many") ->
        (done: Bytes "how many were copied");
    9 MEMORY_READ_PHYSICAL "memory_read_physical" Owner
        "copies guest-physical memory into the caller's buffer"
        (buffer: Gva "where to", from: Gpa "where from", bytes: Bytes "how many") ->
        (done: Bytes "how many were copied");
    10 MEMORY_WRITE_PHYSICAL "memory_write_physical" Owner
        "copies the caller's buffer into guest-physical memory"
        (buffer: Gva "where from", into: Gpa "where to", bytes: Bytes "how many") ->
        (done: Bytes "how many were copied");
    11 MEMORY_READ_PAGES "memory_read_pages" Owner
        "copies a list of guest-physical pages into the caller's buffer"
        (buffer: Gva "where to",
         list: Gva "the pages' guest-physical addresses in their order, 8 bytes each",
         bytes: Bytes "how many",
         offset: Bytes "where in the first page they begin") ->
        (done: Bytes "how many were copied");
    12 MEMORY_WRITE_PAGES "memory_write_pages" Owner
        "copies the caller's buffer into a list of guest-physical pages"
        (buffer: Gva "where from",
         list: Gva "the pages' guest-physical addresses in their order, 8 bytes each",
         bytes: Bytes "how many",
         offset: Bytes "where in the first page they begin") ->
        (done: Bytes "how many were copied");
    13 MEMORY_READ_SPACE "memory_read_space" Owner
        "copies from another address space into the caller's buffer, as a kernel there could read it; what is absent there is -EFAULT"
        (buffer: Gva "where to",
         from: Number "where from, a linear address there",
         bytes: Bytes "how many",
         root: Gpa "the address space, as CR3 would hold it; the paging mode is the caller's") ->
        (done: Bytes "how many were copied");
    14 MEMORY_WRITE_SPACE "memory_write_space" Owner
        "copies the caller's buffer into another address space, as a kernel there could write it; what is absent or read-only there is -EFAULT"
        (buffer: Gva "where from",
         into: Number "where to, a linear address there",
         bytes: Bytes "how many",
         root: Gpa "the address space, as CR3 would hold it; the paging mode is the caller's") ->
        (done: Bytes "how many were copied");
    15 MEMORY_TRANSLATE "memory_translate" Owner
        "gives the guest-physical address of a linear one, as a kernel there could read it; what is absent there is -EFAULT"
        (address: Number "the linear address",
         root: Gpa "the address space, as CR3 would hold it; the paging mode is the caller's") ->
        (physical: Gpa "where it lies", left: Bytes "how many bytes of its page begin there");
    16 LOG_READ "log_read" Owner
        "reads whole lines of the log; a buffer in which not even the first fits is -EINVAL"
        (buffer: Gva "where to",
         bytes: Bytes "the room there",
         line: Number "the first line's number, counted from 0") ->
        (done: Bytes "how many bytes were written; each line ends with a newline",
         next: Number "the number of the line to go on with",
         lost: Number "lines before it that were overwritten unread");
    17 LOG_WRITE "log_write" Any
        "writes a line into the log, marked with who wrote it; who does it too often gets -EAGAIN"
        (text: Gva "the line", bytes: Bytes "its length; at most 200 are used") ->
        (done: Bytes "how many were used");
    18 LOG_LEVEL "log_level" Owner
        "sets how important a line of the log must be"
        (level: Number "0 nothing is logged, 1 errors, 2 and warnings, 3 and what is worth knowing, 4 and what an engineer asks for, 5 everything") ->
        (before: Number "what it was");
    19 STATISTICS_READ "statistics_read" Owner
        "tells what the exits of a CPU cost; no such CPU is -EINVAL"
        (buffer: Gva "where records `underlay_exits` are written, one for each kind of exit",
         bytes: Bytes "the room there",
         first: Number "the first kind to tell of, counted from 0",
         cpu: Number "the CPU's number, counted from 0") ->
        (written: Number "how many records were written",
         all: Number "how many kinds there are",
         cpu: Number "the CPU");
    20 ODDITIES_READ "oddities_read" Owner
        "tells how often the guest did what no ordinary system does"
        (buffer: Gva "where records `underlay_oddity` are written, one for each kind",
         bytes: Bytes "the room there",
         first: Number "the first kind to tell of, counted from 0") ->
        (written: Number "how many records were written", all: Number "how many kinds there are");
    21 STATISTICS_RESET "statistics_reset" Owner
        "makes all that is counted of a CPU's exits 0; no such CPU is -EINVAL"
        (cpu: Number "the CPU's number, counted from 0") ->
        (exits: Number "how many exits had been counted");
    22 TRACE_READ "trace_read" Owner
        "reads the trace of a CPU's exits; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL"
        (buffer: Gva "where records `underlay_trace` are written",
         bytes: Bytes "the room there",
         record: Number "the first record's number, counted from 0",
         cpu: Number "the CPU's number, counted from 0") ->
        (written: Number "how many records were written",
         next: Number "the number of the record to go on with",
         lost: Number "records before it that were overwritten unread");
    23 TRACE_SWITCH "trace_switch" Owner
        "starts or stops the trace of a CPU's exits; without `trace` in the config it is -ENOSYS, no such CPU is -EINVAL"
        (on: Number "1 starts it, 0 stops it", cpu: Number "the CPU's number, counted from 0") ->
        (before: Number "what it was");
    24 BUFFER_SHARE "buffer_share" Kernel
        "keeps a list of guest-physical pages as a buffer for further calls; after 8 of them it is -ENOSPC"
        (list: Gva "the pages' guest-physical addresses in their order, 8 bytes each",
         bytes: Bytes "how long the buffer is; more than one call uses is -EINVAL",
         offset: Bytes "where in the first page it begins") ->
        (handle: Number "its number, from 1 on");
    25 BUFFER_RELEASE "buffer_release" Kernel
        "forgets a buffer, whose pages may then be used for something else"
        (handle: Number "the buffer") ->
        (zero: Number "0");
    26 LOG_FILL "log_fill" Kernel
        "reads whole lines of the log into a shared buffer; one in which not even the first fits is -EINVAL"
        (handle: Number "the buffer", line: Number "the first line's number, counted from 0") ->
        (done: Bytes "how many bytes were written; each line ends with a newline",
         next: Number "the number of the line to go on with",
         lost: Number "lines before it that were overwritten unread");
    27 SHELL_OPEN "shell_open" Owner
        "begins a session of the debug shell; of more than 8 the one that was used longest ago ends"
        () ->
        (handle: Number "the session");
    28 SHELL_LINE "shell_line" Owner
        "runs a line in a session of the debug shell; no such session is -EINVAL"
        (handle: Number "the session",
         line: Gva "the line",
         bytes: Bytes "its length, of at most 120; 0 goes on with the text of the last line, which any other line cuts off",
         buffer: Gva "where to put the text",
         room: Bytes "the room there; at most 4096 are used") ->
        (done: Bytes "how much text there is",
         more: Number "1 if there is more to come, else 0",
         ended: Number "1 if the line ended the session, else 0");
    29 SHELL_CLOSE "shell_close" Owner
        "ends a session of the debug shell"
        (handle: Number "the session") ->
        (zero: Number "0");
    30 DBGSH "dbgsh" Compat
        "is the debug shell as BitVisor's clients know it, a byte at a time"
        (byte: Number "in 32 bits: what was typed where the shell waited for it, or 0x100 for a NUL; 0 where it had given a byte, which is taken; -1 changes nothing") ->
        (byte: Number "a byte to show; 0x10a is the newline behind the end; 0: the shell waits for a byte");
    31 LOG_SET_BUF "log_set_buf" Kernel
        "has each line of the log that comes copied into a buffer, as BitVisor's clients know it; what is no memory of the guest's, or of no use, is -EINVAL"
        (buffer: Gpa "32 bits that count bytes written less bytes read, then a ring of text; a multiple of 4, or 0: none any more",
         bytes: Bytes "its size with the count, of at most 1 MiB; 0: none any more") ->
        (zero: Number "0");
    32 GET_STATUS "get_status" Compat
        "tells what there is beneath in text for people, as BitVisor's clients know it"
        (buffer: Gva "where to put the text", room: Bytes "the room there") ->
        (missing: Number "0, or 1 if it does not fit and was not written",
         unchanged: Gva "the buffer",
         bytes: Bytes "how long the text is; no NUL follows it");
    33 CPUS_READ "cpus_read" Owner
        "tells which CPUs there are, by which number each is known to the other services, and what it does"
        (buffer: Gva "where records `underlay_cpu` are written, one for each CPU",
         bytes: Bytes "the room there",
         first: Number "the first CPU to tell of, counted from 0") ->
        (written: Number "how many records were written",
         all: Number "how many CPUs there are",
         here: Number "the number of the CPU that calls");
    34 VM_CREATE "vm_create" Owner
        "makes a child, a VM that a program of the owner's runs; without `pool` in the config it is -ENOSYS"
        (name: Gva "its name, which no other child may have", bytes: Bytes "the name's length, of at most 32") ->
        (handle: Number "its handle, which is a secret of the program's",
         number: Number "the number by which `vm_list` tells of it");
    35 VM_DESTROY "vm_destroy" Owner
        "ends a child and takes back all that it has; one that runs at this moment is -EBUSY, and does not run again"
        (child: Number "its handle, or its number") ->
        (zero: Number "0");
    36 VM_LIST "vm_list" Owner
        "tells which children there are"
        (buffer: Gva "where records `underlay_vm` are written",
         bytes: Bytes "the room there",
         first: Number "the first child to tell of, counted from 0") ->
        (written: Number "how many records were written", all: Number "how many children there are");
    37 VM_QUERY "vm_query" Owner
        "tells of one child"
        (handle: Number "the child", buffer: Gva "where an `underlay_vm` is written", bytes: Bytes "the room there") ->
        (size: Bytes "the size of the whole record, of which as much was written as there was room");
    38 VM_MEMORY "vm_memory" Owner
        "gives a child some more of the pool, full of zeros; it sees none of it before it is mapped"
        (handle: Number "the child") ->
        (address: Gpa "where the program finds it", bytes: Bytes "how much it is");
    39 VM_MAP "vm_map" Owner
        "lets a child see memory that it was given, or no longer see what is there"
        (handle: Number "the child",
         at: Number "the child's own physical address, a multiple of a page",
         from: Gpa "where the memory is, a multiple of a page",
         bytes: Bytes "how much, a multiple of a page",
         rights: Number "1 it may read, added: 2 write, 4 execute; 0: it sees nothing there") ->
        (done: Bytes "how many were done; the rest needs another call");
    40 VM_VCPU "vm_vcpu" Owner
        "gives a child another vCPU, in the state after a reset"
        (handle: Number "the child") ->
        (vcpu: Number "its number, counted from 0");
    41 VM_REGISTERS_READ "vm_registers_read" Owner
        "reads the registers of a vCPU that does not run"
        (handle: Number "the child", vcpu: Number "the vCPU",
         buffer: Gva "where an `underlay_vm_registers` is written") ->
        (zero: Number "0");
    42 VM_REGISTERS_WRITE "vm_registers_write" Owner
        "sets the registers of a vCPU that does not run, which then forgets an exit that waits for an answer"
        (handle: Number "the child", vcpu: Number "the vCPU",
         buffer: Gva "an `underlay_vm_registers`") ->
        (zero: Number "0");
    43 VM_RUN "vm_run" Owner
        "runs a vCPU on this CPU until it needs its program, or the CPU is wanted"
        (handle: Number "the child", vcpu: Number "the vCPU",
         entry: Gva "an `underlay_vm_entry`, which is read once, before it runs",
         exit: Gva "where an `underlay_vm_exit` is written, after it ran") ->
        (kind: Number "the kind of the exit, as in the record");
    44 VM_INJECT "vm_inject" Owner
        "raises an event in a vCPU that does not run, when it is entered next; one that cannot take it is -EBUSY"
        (handle: Number "the child", vcpu: Number "the vCPU",
         event: Number "the event, as in `underlay_vm_entry`",
         error: Number "its error code") ->
        (zero: Number "0");
    45 VM_RECORDS "vm_records" Owner
        "keeps the records of a vCPU's turns in memory that its child was given, where its program finds them"
        (handle: Number "the child", vcpu: Number "the vCPU",
         page: Gpa "a page, which the child need not see: an `underlay_vm_entry` lies at its beginning, and an `underlay_vm_exit` 2048 bytes behind that") ->
        (zero: Number "0");
    46 VM_TURN "vm_turn" Owner
        "is `vm_run` with the records of `vm_records`, and the cheapest way to run a vCPU"
        (handle: Number "the child", vcpu: Number "the vCPU") ->
        (kind: Number "the kind of the exit, as in the record");
    } };
}

with_services!(services);

#[cfg(test)]
mod tests {
    use super::super::{ARGUMENTS, NAME_MAX, RESULTS};
    use super::*;

    #[test]
    fn service_numbers_are_their_rows_and_names_are_unique() {
        for (row, service) in SERVICES.iter().enumerate() {
            assert_eq!(service.number, row as u64);
            assert!(service.name.len() <= NAME_MAX);
            let same_name = SERVICES.iter().filter(|s| s.name == service.name);
            assert_eq!(same_name.count(), 1, "{}", service.name);
        }
    }

    #[test]
    fn there_is_a_register_for_every_argument_and_result() {
        for service in SERVICES {
            assert!(service.arguments.len() <= ARGUMENTS.len());
            assert!((1..=RESULTS.len()).contains(&service.results.len()));
        }
    }
}
