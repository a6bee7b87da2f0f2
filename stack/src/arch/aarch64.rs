//! aarch64, AAPCS64. Read `x86_64.rs` first; here is only what differs.
//!
//! * The registers kept by hand are X19 (LLVM's own, as RBX there) and X29 (the frame pointer).
//! * Linux has no red zone on this CPU: a signal handler may overwrite everything below SP. So the record is
//!   made by moving SP down, and the saved stack pointer is the record's address:
//! ```text
//!              │ frame of the function with      │
//!              │ the inlined `switch`: spills    │
//!        +32   ├─────────────────────────────────┤  SP of that function
//!        +24   │ (padding: SP is a multiple of 16)│
//!        +16   │ X19                             │
//!         +8   │ where to go on: label 2         │
//!   saved sp ─►│ X29                             │
//!              └─────────────────────────────────┘
//! ```
//!   While SP is down, an unwind table that counts from SP would be 32 bytes wrong, so all of it is marked
//!   "no caller", not just the three instructions after the exchange. (rustc's functions count from X29,
//!   where it would not matter; frame-pointer walkers are right throughout.)
//! * X18 belongs to the platform and is left alone. V8 to V15 keep only their low halves across C calls, so
//!   they are clobbered by hand.
//! * The jump is `br`, and under branch-target identification its targets must begin with `bti j`. Written as
//!   `hint #36`, it is a no-operation on CPUs without it.
//! * FPCR stays with the thread, as MXCSR does there.

use crate::entry;
use crate::saved::Saved;
use std::arch::{asm, naked_asm};

/// Offsets of the record above the saved stack pointer.
const FRAME_AND_RESUME: usize = 0;
const X19: usize = 16;
const RECORD_BYTES: usize = 32;
const _: () = assert!(RECORD_BYTES.is_multiple_of(16));

/// See the [contract](super).
///
/// # Safety
/// `*from` may be written; `*to` is the saved stack pointer of an intact suspended stack, resumed only here.
#[inline(always)]
pub(crate) unsafe fn switch(from: *mut usize, to: *mut usize, argument: usize) -> (usize, *mut Saved) {
    let delivered: usize;
    let resumer: *mut Saved;
    // SAFETY: validity: the contract above is this function's. aliasing: everything that must survive is
    //         in memory, since every register is an output or clobbered, except X19 and X29, which are kept.
    unsafe {
        asm!(
            // - X0 is where our stack pointer goes, X1 where theirs is, X2 what we deliver.
            ".cfi_remember_state",
            ".cfi_undefined x30",
            "adr x9, 2f",
            "sub sp, sp, #{RECORD}",
            "stp x29, x9, [sp, #{PAIR}]",
            "str x19, [sp, #{X19}]",
            "mov x9, sp",
            "str x9, [x0]",
            "ldr x9, [x1]",
            "mov sp, x9",
            "ldr x19, [sp, #{X19}]",
            "ldp x29, x9, [sp, #{PAIR}]",
            "add sp, sp, #{RECORD}",
            "br x9",
            // - SP, X19, X29 are as they were, X2 is what they deliver, X0 is their `from` (or null).
            "2:",
            "hint #36",
            ".cfi_restore_state",
            RECORD = const RECORD_BYTES,
            PAIR = const FRAME_AND_RESUME,
            X19 = const X19,
            inout("x0") from => resumer,
            inout("x1") to => _,
            inout("x2") argument => delivered,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _, out("x30") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            clobber_abi("C"),
        );
    }
    (delivered, resumer)
}

/// See the [contract](super).
///
/// # Safety
/// `*to` is the saved stack pointer of an intact suspended stack, resumed only here.
#[inline(always)]
pub(crate) unsafe fn switch_final(to: *mut usize, argument: usize) -> ! {
    // SAFETY: validity and aliasing: as in `switch`; nothing of this context is needed again.
    unsafe {
        asm!(
            // - X1 is where their stack pointer is, X2 what we deliver.
            ".cfi_remember_state",
            ".cfi_undefined x30",
            "ldr x9, [x1]",
            "mov sp, x9",
            "ldr x19, [sp, #{X19}]",
            "ldp x29, x9, [sp, #{PAIR}]",
            "add sp, sp, #{RECORD}",
            // Nobody resumed them: we are dead.
            "mov x0, xzr",
            "br x9",
            ".cfi_restore_state",
            RECORD = const RECORD_BYTES,
            PAIR = const FRAME_AND_RESUME,
            X19 = const X19,
            in("x1") to,
            in("x2") argument,
            options(noreturn),
        )
    }
}

/// See the [contract](super).
///
/// # Safety
/// `start` is a multiple of 16, and the 32 bytes below it are writable and hold nothing alive.
pub(crate) unsafe fn write_first_record(start: usize, entry: usize) -> usize {
    let record = start - RECORD_BYTES;
    let words = [
        (FRAME_AND_RESUME, 0),
        (FRAME_AND_RESUME + 8, trampoline as *const () as usize),
        (X19, entry),
    ];
    for (offset, word) in words {
        let place = std::ptr::with_exposed_provenance_mut::<usize>(record + offset);
        // SAFETY: validity and aliasing: the contract's 32 bytes.
        unsafe { place.write(word) };
    }
    record
}

/// Where a fresh stack starts, reached by the jump in `switch`. The return address is in X30 here, so that is
/// what an unwinder must find undefined.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        // - SP is the start address; X19 the entry; X29 0; X2 what the switch delivers, X0 its `from`.
        "hint #36",
        "mov x1, x19",
        "bl {begin}",
        "brk #1",
        ".cfi_endproc",
        begin = sym entry::begin,
    )
}

/// See the [contract](super).
///
/// # Safety
/// `top` is a multiple of 16, with enough stack below it for `function`, which does not unwind.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn call_on(data: *mut u8, function: unsafe extern "C" fn(*mut u8), top: usize) {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_signal_frame",
        // - X0 data, X1 the function, X2 the new top.
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa sp, 16",
        ".cfi_offset x30, -8",
        ".cfi_offset x29, -16",
        "mov x29, sp",
        ".cfi_def_cfa_register x29",
        "mov sp, x2",
        "blr x1",
        "nop",
        "mov sp, x29",
        ".cfi_def_cfa_register sp",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa sp, 0",
        ".cfi_restore x29",
        ".cfi_restore x30",
        "ret",
        ".cfi_endproc",
    )
}

/// See the [contract](super).
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let value: usize;
    // SAFETY: validity: copies a register. aliasing: touches no memory.
    unsafe { asm!("mov {}, sp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// See the [contract](super).
#[inline(always)]
pub(crate) fn frame_pointer() -> usize {
    let value: usize;
    // SAFETY: validity: copies a register. aliasing: touches no memory.
    unsafe { asm!("mov {}, x29", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// See the [contract](super).
///
/// # Safety
/// A word may be read at `address`.
#[inline(always)]
pub(crate) unsafe fn read_word(address: usize) -> usize {
    let value: usize;
    // SAFETY: validity: as our caller says. aliasing: only reads.
    unsafe {
        asm!("ldr {}, [{}]", out(reg) value, in(reg) address, options(readonly, nostack, preserves_flags))
    };
    value
}

/// See the [contract](super).
#[inline(always)]
pub(crate) fn fetch(address: *const u8) {
    // SAFETY: validity: a hint, which reads and writes nothing, at any address. aliasing: as that.
    unsafe { asm!("prfm pstl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
}

/// See the [contract](super). The virtual counter, which the kernel's own clock reads in user mode.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: validity: copies a register that user mode may read. aliasing: touches no memory.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// See the [contract](super). A guarded control stack is turned on only for programs whose every object is
/// marked for it, which ours are not.
pub(crate) fn has_shadow_stack() -> bool {
    false
}

/// See the [contract](super). Rotations by 64 bits in all, as in valgrind.h.
#[cfg(feature = "valgrind")]
pub(crate) fn valgrind_request(request: usize, first: usize, second: usize) -> usize {
    let words = [request, first, second, 0, 0, 0];
    let answer: usize;
    // SAFETY: validity: rotates X12 by 128 bits in all. aliasing: Valgrind reads `words` only.
    unsafe {
        asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") words.as_ptr(),
            inout("x3") 0_usize => answer,
            inout("x12") 0_usize => _,
            options(nostack),
        );
    }
    answer
}
