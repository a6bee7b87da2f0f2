//! The dynamic loader, whose lock the unwinder takes as well.

use bast_examples::stress::tools::{Ground, Rng};
use std::ffi::CStr;

/// Small libraries that come with the C library and that nothing here links to, with one of their functions.
const LIBRARIES: [(&CStr, &CStr); 3] = [
    (c"libBrokenLocale.so.1", c"__ctype_get_mb_cur_max"),
    (c"libthread_db.so.1", c"td_init"),
    (c"libm.so.6", c"cos"),
];

/// Tasks that load libraries, look for a function, and unload them; each also catches a panic, for which the unwinder
/// asks the loader what is loaded.
pub(crate) fn dlopen(ground: Ground, rng: &mut Rng) {
    super::crowd(ground, rng, 8, |ground, number, rng| {
        for _ in 0..1 + rng.below(6) {
            let (library, symbol) = LIBRARIES[rng.below(3) as usize];
            // SAFETY: validity: a C string; these libraries' constructors have no demands.
            let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if handle.is_null() {
                ground.check(library != c"libm.so.6", || "libm cannot be loaded".to_owned());
                continue; // another C library
            }
            // SAFETY: validity: the handle was just opened, the name is a C string.
            let function = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
            ground.check(!function.is_null(), || format!("no {symbol:?} in {library:?}"));
            if rng.one_in(8) {
                super::hogs::burn(rng.micros_below(12_000));
            }
            super::panics::caught(ground, number);
            // SAFETY: validity: opened above, closed once; nothing of it is used after.
            let result = unsafe { libc::dlclose(handle) };
            ground.same(result, 0, "dlclose");
        }
    });
}
