//! What lies at an address: functions, files and lines. Slow, and for the closer's thread alone.
//!
//! With the feature `symbols` by the crate `backtrace`, from debug information. If that is of lines only, names come
//! without the path of their module, and what is ours is known by its file. Without the feature the system's dynamic linker is
//! asked, which knows the file that was loaded there, and functions that other files may use: elsewhere a frame is
//! `program+0x1234`, which `addr2line -f -e program 0x1234` can name.

use std::borrow::Cow;

/// One function at an address; there are several if calls were inlined.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) part: Part,
}

/// Whose a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Worth to be shown.
    Program,
    /// Ours, or what std puts around closures and threads.
    Frame,
}

/// Calls `found` for each function at a return address, the innermost first; at least once.
pub(super) fn resolve(address: usize, found: impl FnMut(Symbol)) {
    #[cfg(feature = "symbols")]
    by_debug_information(address, found);
    #[cfg(not(feature = "symbols"))]
    by_linker(address, found);
}

#[cfg(feature = "symbols")]
fn by_debug_information(address: usize, mut found: impl FnMut(Symbol)) {
    let mut named = false;
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        let Some(name) = symbol.name() else { return };
        named = true;
        let name = format!("{name:#}"); // without the hash
        let file = symbol
            .filename()
            .map_or_else(unknown, |file| file.display().to_string());
        found(Symbol {
            part: part_of(&name, &file),
            function: super::name::frame(&name),
            file,
            line: symbol.lineno().unwrap_or(1).max(1),
        });
    });
    if !named {
        by_linker(address, found);
    }
}

fn by_linker(address: usize, mut found: impl FnMut(Symbol)) {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: validity: any address may be asked for; `info` is writable. aliasing: a local.
    let known = unsafe { libc::dladdr(std::ptr::without_provenance(address - 1), info.as_mut_ptr()) } != 0;
    // SAFETY: validity: zeros are valid in it: null pointers. aliasing: a local.
    let info = unsafe { info.assume_init() };
    let text = |pointer: *const libc::c_char| {
        // SAFETY: validity: null, or a string of an object that is loaded: code of it is on a stack. aliasing: read-only.
        (known && !pointer.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(pointer) }.to_string_lossy())
    };
    let file = text(info.dli_fname);
    let function = match (text(info.dli_sname), &file) {
        (Some(name), _) => name.into_owned(),
        (None, Some(file)) => {
            let name = file.rsplit('/').next().unwrap_or_default();
            format!("{name}+{:#x}", address.wrapping_sub(info.dli_fbase.addr()))
        }
        (None, None) => format!("{address:#x}"),
    };
    let file = file.map_or_else(unknown, Cow::into_owned);
    found(Symbol {
        part: part_of(&function, &file),
        function,
        file,
        line: 1,
    });
}

fn unknown() -> String {
    "??".to_owned()
}

/// Beginnings of names that say nothing of the program.
const FRAMES: &[&str] = &[
    "bast::",
    "bast_stack::",
    "core::ops::function::",
    "core::panic::",
    "core::ptr::drop_in_place",
    "core::ptr::drop_glue",
    "std::panic",
    "std::thread::",
    "std::sys::",
    "std::rt::",
    "__rust_try",
    "__libc_start",
];

/// Whole names at the end of a thread's stack.
const THREAD_ENDS: &[&str] = &[
    "main",
    "_start",
    "start_thread",
    "clone3",
    "__clone3",
    "clone",
    "__clone",
    "thread_start",
];

/// Beginnings of paths of such files, and parts of them in std's.
const FILES: &[&str] = &[concat!(env!("CARGO_MANIFEST_DIR"), "/src/"), bast_stack::SOURCES];
const STD_FILES: &[&str] = &[
    "/library/core/src/ops/function.rs",
    "/library/core/src/panic/",
    "/library/alloc/src/boxed.rs",
    "/library/std/src/panic",
    "/library/std/src/thread/",
    "/library/std/src/sys/",
    "/library/std/src/rt.rs",
];

fn part_of(name: &str, file: &str) -> Part {
    // `<bast::sync::X as Y>::z`, `<&bast::net::X as Y>::z`, `<alloc::boxed::Box<F> as core::ops::function::FnOnce>::z`
    let first = name.trim_start_matches(['<', '&', '*']);
    let first = first.strip_prefix("mut ").unwrap_or(first);
    let of_box = first.starts_with("alloc::boxed::Box<") && first.contains(" as core::ops::function::Fn");
    let by_file =
        FILES.iter().any(|start| file.starts_with(start)) || STD_FILES.iter().any(|part| file.contains(part));
    match of_box
        || by_file
        || THREAD_ENDS.contains(&name)
        || FRAMES.iter().any(|frame| first.starts_with(frame))
    {
        true => Part::Frame,
        false => Part::Program,
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, part_of, resolve};

    #[test]
    fn what_is_ours_is_known_by_its_name() {
        for ours in [
            "bast::sched::park::park",
            "<&bast::net::tcp::TcpStream as std::io::Read>::read",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once",
            "std::panicking::catch_unwind",
            "main",
        ] {
            assert_eq!(part_of(ours, "??"), Part::Frame, "{ours}");
        }
        for theirs in [
            "app::f",
            "std::io::Read::read_exact",
            "bastion::f",
            "app::main",
            "<app::X as bast::Y>::f",
        ] {
            assert_eq!(part_of(theirs, "src/main.rs"), Part::Program, "{theirs}");
        }
    }

    #[test]
    fn or_by_its_file() {
        for ours in [file!(), "thread/x.rs"] {
            let absolute = match ours.strip_prefix("runtime/") {
                Some(file) => format!("{}/{file}", env!("CARGO_MANIFEST_DIR")),
                None => format!("/rustc/0/library/std/src/{ours}"),
            };
            assert_eq!(part_of("f", &absolute), Part::Frame, "{absolute}");
        }
        assert_eq!(
            part_of("f", "/home/me/runtime/src/trace/symbols.rs"),
            Part::Program
        );
    }

    #[test]
    fn everything_has_a_name() {
        for address in [1, usize::MAX, resolve_something()] {
            let mut count = 0;
            resolve(address, |symbol| {
                count += 1;
                assert!(!symbol.function.is_empty() && !symbol.file.is_empty() && symbol.line > 0);
            });
            assert!(count > 0, "{address:#x}");
        }
    }

    /// An address of ours.
    fn resolve_something() -> usize {
        let function: fn(&str, &str) -> Part = part_of;
        function as usize + 1
    }
}
