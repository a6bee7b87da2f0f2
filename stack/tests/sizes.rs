//! Sizes that other crates build on.

use bast_stack::{HotCache, Stack, StackClass};
use std::mem::{needs_drop, size_of};

#[test]
#[cfg(not(any(bast_asan, bast_tsan)))]
fn a_saved_context_is_one_word() {
    use bast_stack::Saved;
    use std::mem::align_of;
    assert_eq!((size_of::<Saved>(), align_of::<Saved>()), (8, 8));
    assert!(!needs_drop::<Saved>());
}

#[test]
fn a_stack_handle_is_one_word_and_none_costs_nothing() {
    assert_eq!(size_of::<Stack>(), 8);
    assert_eq!(size_of::<Option<Stack>>(), 8);
    assert!(!needs_drop::<Stack>(), "dropping a handle leaks its slot");
}

#[test]
fn a_hot_cache_is_small() {
    assert!(size_of::<HotCache>() <= 40, "{}", size_of::<HotCache>());
}

#[test]
fn classes_are_powers_of_two_and_found_by_size() {
    for class in StackClass::ALL {
        assert!(class.bytes().is_power_of_two());
        assert_eq!(StackClass::for_bytes(class.bytes()), Some(class));
        assert!(class.usable_bytes() < class.bytes() || class == StackClass::Small64K);
    }
    assert_eq!(StackClass::for_bytes(0), Some(StackClass::Small64K));
    assert_eq!(
        StackClass::for_bytes((64 << 10) + 1),
        Some(StackClass::Default256K)
    );
    assert_eq!(StackClass::for_bytes((8 << 20) + 1), None);
    assert_eq!(StackClass::default(), StackClass::Default256K);
}
