//! Where the thread-local storage of the calling thread lies.

use std::ops::Range;

/// The thread-local blocks of the calling thread, one a loaded module that has any: the program, and libraries but for
/// the C library's own and the loader's. Modules that are loaded later are not in it.
#[cfg(target_os = "linux")]
pub(crate) fn blocks() -> Vec<Range<usize>> {
    /// What the C library keeps a thread, such as `errno`, is no borrow of anybody's.
    const NOT_OURS: [&str; 4] = ["/libc.so", "/libc.musl", "/ld-linux", "/ld-musl"];

    unsafe extern "C" fn add(
        module: *mut libc::dl_phdr_info,
        _: libc::size_t,
        blocks: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: validity: the loader passes a module that is there during the call. aliasing: shared borrow.
        let module = unsafe { &*module };
        // SAFETY: validity: `blocks` below passes its vector. aliasing: it is not used elsewhere during the call.
        let blocks = unsafe { &mut *blocks.cast::<Vec<Range<usize>>>() };
        if module.dlpi_tls_data.is_null() || module.dlpi_phdr.is_null() {
            return 0;
        }
        if !module.dlpi_name.is_null() {
            // SAFETY: validity: the loader's name of the module, ended by a zero.
            let name = unsafe { std::ffi::CStr::from_ptr(module.dlpi_name) };
            let name = name.to_string_lossy();
            if NOT_OURS.iter().any(|other| name.contains(other)) {
                return 0;
            }
        }
        // SAFETY: validity: the loader says that so many headers lie there. aliasing: shared borrow, nobody writes them.
        let headers = unsafe { std::slice::from_raw_parts(module.dlpi_phdr, module.dlpi_phnum.into()) };
        for header in headers.iter().filter(|header| header.p_type == libc::PT_TLS) {
            let start = module.dlpi_tls_data as usize;
            blocks.push(start..start + header.p_memsz as usize);
        }
        0
    }

    let mut blocks: Vec<Range<usize>> = Vec::new();
    // SAFETY: validity: the callback and what it is passed are as `dl_iterate_phdr` wants them, and the vector is a local.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut blocks).cast()) };
    blocks
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn blocks() -> Vec<Range<usize>> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::blocks;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "another thread has another block")]
    fn a_thread_local_lies_in_its_threads_block() {
        let own = crate::current::own_thread_local();
        let here = blocks();
        assert!(here.iter().any(|block| block.contains(&own)), "{here:x?} {own:x}");
        let other = std::thread::spawn(blocks).join().unwrap();
        assert!(
            !other.iter().any(|block| block.contains(&own)),
            "{other:x?} {own:x}"
        );
    }
}
