//! The bare switch, and beside it that of corosensei, whose own benchmark has the same two shapes.

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn switch(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "switch");
    let mut group = criterion.benchmark_group("switch");
    let mut identity: Coroutine<usize, usize, ()> = Coroutine::new(|yielder, mut value| {
        loop {
            value = yielder.suspend(value);
        }
    });
    group.bench_function("corosensei there and back", |bencher| {
        bencher.iter(|| match identity.resume(black_box(1)) {
            CoroutineResult::Yield(value) => value,
            CoroutineResult::Return(()) => unreachable!("it never returns"),
        });
    });
    // SAFETY: nothing on the coroutine's stack has a destructor.
    unsafe { identity.force_reset() };
    let mut warm = Some(DefaultStack::default());
    group.bench_function("corosensei call and return", |bencher| {
        bencher.iter(|| {
            let stack = warm.take().expect("it is put back below");
            let mut once: Coroutine<usize, (), usize> = Coroutine::with_stack(stack, |_, value| value);
            let value = once.resume(black_box(1)).as_return();
            warm = Some(once.into_stack());
            value
        });
    });
    group.finish();
}

criterion_group!(name = group; config = bast_benches::short(); targets = switch);
criterion_main!(group);
