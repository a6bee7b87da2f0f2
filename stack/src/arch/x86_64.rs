//! The reference switch: x86_64, System V ABI.
//!
//! # Idea
//! A switch is inline assembly that is declared to clobber every register. The compiler then spills what it
//! still needs, and only that, before it; no fixed set of callee-saved registers is pushed and popped. (The
//! idea is libfringe's, Photon calls it CACS, "context-aware context switching".) Two registers cannot be
//! declared clobbered in Rust, RBX (kept by LLVM for itself) and RBP (the frame pointer), so they are saved
//! by hand. The program goes on by a jump to an address kept on the target's stack, not by `ret`: the CPU's
//! return-address predictor pairs calls with returns, and a `ret` without a call would unsettle it.
//!
//! The stack pointer itself is never moved on the leaving side: the record lies in the 128-byte red zone
//! below it, which no signal handler touches (System V ABI, 3.2.2) and which the compiler leaves free in a
//! function with such assembly. So the compiler's unwind table is exact at every instruction: before the
//! stack pointer is loaded it describes the leaving frame, from label `2:` on the resumed one, and for the
//! three instructions between it says that there is no caller.
//!
//! # A suspended stack
//! ```text
//!              │ frames of the task              │
//!              │ frame of the function with      │
//!              │ the inlined `switch`: spills    │
//!   saved sp ─►├─────────────────────────────────┤  a multiple of 16
//!         -8   │ where to go on: label 2         │
//!        -16   │ RBX                             │
//!        -24   │ RBP                             │
//!              └─────────────────────────────────┘  below: dead
//! ```
//! A debugger shows a suspended task by setting RSP to the saved value and RIP, RBX and RBP to the record's.
//!
//! # A stack that has not started
//! ```text
//!        top  ─►├────────────────────────────────┤
//!               │ colour, or the caller's        │
//!   saved sp ─►├─────────────────────────────────┤  = start
//!         -8   │ `trampoline`                    │
//!        -16   │ the entry function (RBX)        │
//!        -24   │ 0 (RBP): end of the frame chain │
//!              └─────────────────────────────────┘
//! ```

use crate::entry;
use crate::saved::Saved;
use std::arch::{asm, naked_asm};

/// Offsets below the saved stack pointer.
const RESUME: usize = 8;
const RBX: usize = 16;
const RBP: usize = 24;
const _: () = assert!(RBP <= crate::layout::RED_ZONE_BYTES);

/// See the [contract](super).
///
/// # Safety
/// `*from` may be written; `*to` is the saved stack pointer of an intact suspended stack, resumed only here.
#[inline(always)]
pub(crate) unsafe fn switch(from: *mut usize, to: *mut usize, argument: usize) -> (usize, *mut Saved) {
    let delivered: usize;
    let resumer: *mut Saved;
    // SAFETY: validity: the contract above is this function's. aliasing: everything that must survive is
    //         in memory, since every register is an output or clobbered, except RBX and RBP, which are kept.
    unsafe {
        asm!(
            // - RDI is where our stack pointer goes, RSI where theirs is, RDX what we deliver.
            // Leave the record in the red zone. RSP does not move.
            "lea rax, [rip + 2f]",
            "mov qword ptr [rsp - {RESUME}], rax",
            "mov qword ptr [rsp - {RBX}], rbx",
            "mov qword ptr [rsp - {RBP}], rbp",
            // From this store on, we can be resumed.
            "mov qword ptr [rdi], rsp",
            // Go over. Until label 2 the frame is theirs and the code ours: no caller, for an unwinder.
            ".cfi_remember_state",
            ".cfi_undefined rip",
            "mov rsp, qword ptr [rsi]",
            "mov rbx, qword ptr [rsp - {RBX}]",
            "mov rbp, qword ptr [rsp - {RBP}]",
            "jmp qword ptr [rsp - {RESUME}]",
            // Somebody resumed us:
            // - RSP, RBX, RBP are as they were, RDX is what they deliver, RDI is their `from` (or null);
            // - every other register holds whatever they left.
            "2:",
            ".cfi_restore_state",
            RESUME = const RESUME,
            RBX = const RBX,
            RBP = const RBP,
            inout("rdi") from => resumer,
            inout("rsi") to => _,
            inout("rdx") argument => delivered,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
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
            // - RSI is where their stack pointer is, RDX what we deliver.
            ".cfi_remember_state",
            ".cfi_undefined rip",
            "mov rsp, qword ptr [rsi]",
            "mov rbx, qword ptr [rsp - {RBX}]",
            "mov rbp, qword ptr [rsp - {RBP}]",
            // Nobody resumed them: we are dead.
            "xor edi, edi",
            "jmp qword ptr [rsp - {RESUME}]",
            ".cfi_restore_state",
            RESUME = const RESUME,
            RBX = const RBX,
            RBP = const RBP,
            in("rsi") to,
            in("rdx") argument,
            options(noreturn),
        )
    }
}

/// See the [contract](super).
///
/// # Safety
/// `start` is a multiple of 16, and the 24 bytes below it are writable and hold nothing alive.
pub(crate) unsafe fn write_first_record(start: usize, entry: usize) -> usize {
    for (offset, word) in [(RESUME, trampoline as *const () as usize), (RBX, entry), (RBP, 0)] {
        let place = std::ptr::with_exposed_provenance_mut::<usize>(start - offset);
        // SAFETY: validity and aliasing: the contract's 24 bytes.
        unsafe { place.write(word) };
    }
    start
}

/// Where a fresh stack starts, reached by the jump in `switch`.
///
/// The caller's address is declared undefined, which is how an unwinder knows the outermost frame (it does
/// not look at RBP); RBP is zero, which is how a frame-pointer walker knows it.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        // - RSP is the start address, a multiple of 16 as a call needs it; RBX the entry; RBP 0;
        // - RDX what the switch delivers, RDI its `from`.
        // begin(resumer: RDI, entry: RSI, argument: RDX)
        "mov rsi, rbx",
        "call {begin}",
        // `begin` does not return. The instruction keeps the return address inside this function's table.
        "ud2",
        ".cfi_endproc",
        begin = sym entry::begin,
    )
}

/// See the [contract](super): calls `function(data)` on the stack that ends at `top`.
///
/// Our frame stays on the old stack, with RBP pointing to it; so unwinders, which compute the caller's frame
/// from RBP here, walk from the new stack to the old one. The mark "signal frame" keeps gdb from stopping
/// because the caller's frame is at a lower address than the callee's; for it the return address is looked
/// up as it is, not one byte earlier, hence the `nop`.
///
/// # Safety
/// `top` is a multiple of 16, with enough stack below it for `function`, which does not unwind.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn call_on(data: *mut u8, function: unsafe extern "C" fn(*mut u8), top: usize) {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_signal_frame",
        // - RDI data, RSI the function, RDX the new top.
        "push rbp",
        ".cfi_def_cfa rsp, 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "call rsi",
        "nop",
        // Back: RBP is callee-saved, so it still points to our frame.
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// See the [contract](super).
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let value: usize;
    // SAFETY: validity: copies a register. aliasing: touches no memory.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// See the [contract](super).
#[inline(always)]
pub(crate) fn frame_pointer() -> usize {
    let value: usize;
    // SAFETY: validity: copies a register. aliasing: touches no memory.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
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
        asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(readonly, nostack, preserves_flags))
    };
    value
}

/// See the [contract](super). PREFETCHW does nothing on CPUs that have it in name only (Intel before Broadwell).
#[inline(always)]
pub(crate) fn fetch(address: *const u8) {
    // SAFETY: validity: a hint, which reads and writes nothing, at any address. aliasing: as that.
    unsafe { asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
}

/// See the [contract](super). RDTSC.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    // SAFETY: validity: the instruction is there on every CPU of this architecture, and a system that forbids it (`prctl`,
    // `PR_SET_TSC`) says so by a signal. aliasing: no memory is touched.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// See the [contract](super). RDSSPQ is a no-operation that leaves its operand alone unless the kernel has
/// turned shadow stacks on (Intel SDM 2B).
pub(crate) fn has_shadow_stack() -> bool {
    let pointer: u64;
    // SAFETY: validity: a no-operation on CPUs without the feature. aliasing: touches no memory.
    unsafe { asm!("rdsspq {0}", inout(reg) 0_u64 => pointer, options(nomem, nostack, preserves_flags)) };
    pointer != 0
}

/// See the [contract](super). The sequence of rotations is Valgrind's own (valgrind.h) and changes nothing
/// on a real CPU.
#[cfg(feature = "valgrind")]
pub(crate) fn valgrind_request(request: usize, first: usize, second: usize) -> usize {
    let words = [request, first, second, 0, 0, 0];
    let answer: usize;
    // SAFETY: validity: rotates RDI by 128 bits in all and exchanges RBX with itself.
    //         aliasing: Valgrind reads `words` only.
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_usize => answer,
            inout("rdi") 0_usize => _,
            options(nostack),
        );
    }
    answer
}
