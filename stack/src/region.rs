//! The only caller of `mmap`, `munmap`, `mprotect`, `madvise` and `mincore`.
//!
//! A region is reserved with `PROT_NONE` and made usable piece by piece ([`Region::commit`]): an
//! inaccessible private mapping is charged neither to `vm.overcommit_memory=2` nor to `RLIMIT_DATA`, so
//! a large reservation costs nothing until it is used. Adjacent pieces with equal rights merge into one
//! kernel mapping (VMA), so a region is two of them at most, however many slots are in use.

use crate::layout::page_bytes;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::ptr;

/// `MADV_GUARD_INSTALL` (Linux 6.13, include/uapi/asm-generic/mman-common.h): marks pages in the page
/// table so that any access faults. No VMA is split. The libc crate does not name it everywhere yet.
#[cfg(target_os = "linux")]
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The page size as `sysconf(3)` tells it.
pub(crate) fn page_bytes_from_kernel() -> usize {
    // SAFETY: validity: sysconf takes any name and touches no memory of ours. aliasing: none.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("every system has a page size")
}

/// An owned range of address space; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Region {
    base: usize,
    bytes: usize,
}

impl Region {
    /// Reserves `bytes`, aligned to `align`, inaccessible. `align` is a power of two, a page or more.
    pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<Region> {
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        let bytes = bytes
            .checked_next_multiple_of(page_bytes())
            .ok_or_else(too_large)?;
        let padded = bytes.checked_add(align).ok_or_else(too_large)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        // SAFETY: validity: an anonymous mapping at an address of the kernel's choice replaces nothing.
        //         aliasing: the range is new, so nobody else refers to it.
        let start = unsafe { libc::mmap(ptr::null_mut(), padded, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start as usize;
        let base = start.next_multiple_of(align);
        let region = Region { base, bytes };
        unmap(start, base - start);
        unmap(base + bytes, start + padded - (base + bytes));
        region.advise_for_stacks();
        Ok(region)
    }

    /// No huge pages (one touched page must cost one page) and no copy in a forked child, which would
    /// cost it every stack's page table: see `fork.rs` for the exception. Both are wishes: a kernel
    /// without them still runs us correctly.
    fn advise_for_stacks(&self) {
        #[cfg(target_os = "linux")]
        {
            let _ = advise(self.base, self.bytes, libc::MADV_NOHUGEPAGE);
            // A sanitizer starts its symbolizer by a fork that runs no handlers, from a task's stack too.
            if cfg!(not(any(bast_asan, bast_tsan))) {
                let _ = advise(self.base, self.bytes, libc::MADV_DONTFORK);
            }
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes `[offset, offset + bytes)` readable and writable. Memory is still added only on touch.
    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.protect(offset, bytes, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn protect(&self, offset: usize, bytes: usize, rights: libc::c_int) -> io::Result<()> {
        assert!(
            offset <= self.bytes && bytes <= self.bytes - offset,
            "the piece is inside the region"
        );
        // SAFETY: validity: the range lies in this region, which is mapped while `self` lives.
        //         aliasing: callers pass only pieces that no stack uses yet (fresh slots and guards).
        check(unsafe { libc::mprotect((self.base + offset) as *mut _, bytes, rights) })
    }

    /// Turns a committed range into a guard without splitting the mapping (`MADV_GUARD_INSTALL`).
    pub(crate) fn install_guard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        assert!(
            offset <= self.bytes && bytes <= self.bytes - offset,
            "the guard is inside the region"
        );
        #[cfg(target_os = "linux")]
        return advise(self.base + offset, bytes, MADV_GUARD_INSTALL);
        #[cfg(not(target_os = "linux"))]
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }

    /// Keeps the first `used` bytes mapped for ever, because a stack there was leaked, and unmaps the others.
    pub(crate) fn leak(self, used: usize) {
        unmap(self.base + used, self.bytes - used);
        std::mem::forget(self);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.base, self.bytes);
    }
}

/// Whether this kernel, in this process, installs guards: asked by doing it, because distributions backport it
/// and `mlockall(2)` makes it fail on a kernel that has it. And checked, because success alone does not
/// prove it: an emulator (QEMU's user mode) says yes to advice it does not know and does nothing.
pub(crate) fn can_install_guard() -> bool {
    let Ok(region) = Region::reserve(page_bytes(), page_bytes()) else {
        return false;
    };
    region.commit(0, page_bytes()).is_ok()
        && region.install_guard(0, page_bytes()).is_ok()
        && kernel_cannot_write(region.base())
}

/// Whether a system call that is to write at `address` finds it inaccessible, which is no fault of ours.
///
/// A read from a pipe: the kernel itself writes there, also when QEMU or Valgrind stands between (both answer some
/// calls in its place, and Valgrind 3.19 dies of `getrlimit` into such a page).
fn kernel_cannot_write(address: usize) -> bool {
    let Ok((reader, mut writer)) = io::pipe() else {
        return false;
    };
    if writer.write_all(&[0]).is_err() {
        return false;
    }
    // SAFETY: validity: the kernel answers EFAULT or writes one byte to a mapped page.
    //         aliasing: the page is the caller's, made for this question.
    let code = unsafe { libc::read(reader.as_raw_fd(), address as *mut _, 1) };
    code == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Gives the pages of a range back to the kernel: the next touch finds zeroes.
///
/// # Safety
/// Both ends are page boundaries, the range is mapped by a region, and nobody needs its contents.
pub(crate) unsafe fn discard(address: usize, bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // Other systems keep the pages until memory is short, which changes nothing a program can see.
    #[cfg(target_os = "linux")]
    return advise(address, bytes, libc::MADV_DONTNEED);
    #[cfg(not(target_os = "linux"))]
    return advise(address, bytes, libc::MADV_FREE);
}

/// How many bytes of a mapped, page-aligned range are in memory, by `mincore(2)`.
pub(crate) fn resident_bytes(address: usize, bytes: usize) -> usize {
    const PAGES_A_CALL: usize = 512;
    let page = page_bytes();
    let mut resident = 0;
    let mut done = 0;
    while done < bytes {
        let piece = (bytes - done).min(PAGES_A_CALL * page);
        let mut flags = [0_u8; PAGES_A_CALL];
        // SAFETY: validity: the kernel writes one byte for each page of `piece`, at most PAGES_A_CALL,
        //         and answers ENOMEM for an unmapped range. aliasing: `flags` is ours alone.
        let code = unsafe { libc::mincore((address + done) as *mut _, piece, flags.as_mut_ptr().cast()) };
        if code == 0 {
            resident += flags[..piece / page]
                .iter()
                .filter(|&&flag| flag & 1 != 0)
                .count()
                * page;
        }
        done += piece;
    }
    resident
}

/// Lets a forked child inherit a range (or not): the calling task's own stack, around a `fork(2)`.
#[cfg(target_os = "linux")]
pub(crate) fn set_inherited(address: usize, bytes: usize, inherited: bool) {
    if cfg!(any(bast_asan, bast_tsan)) {
        return;
    }
    let advice = if inherited {
        libc::MADV_DOFORK
    } else {
        libc::MADV_DONTFORK
    };
    let _ = advise(address, bytes, advice);
}

fn advise(address: usize, bytes: usize, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: validity: madvise answers with an error for ranges that are not mapped.
    //         aliasing: only `discard` and guards change contents, and their callers own the range.
    check(unsafe { libc::madvise(address as *mut _, bytes, advice) })
}

fn unmap(address: usize, bytes: usize) {
    if bytes == 0 {
        return;
    }
    // SAFETY: validity: the range was mapped by `Region::reserve` and not unmapped since.
    //         aliasing: the owner of the range gives it up here.
    let result = check(unsafe { libc::munmap(address as *mut _, bytes) });
    debug_assert!(result.is_ok(), "munmap of our own range: {result:?}");
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
