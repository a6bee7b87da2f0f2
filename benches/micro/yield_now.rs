//! See `bast_benches`: the operations of the group `yield_now`.

use criterion::{Criterion, criterion_group, criterion_main};

fn yield_now(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "yield_now");
}

criterion_group!(name = group; config = bast_benches::short(); targets = yield_now);
criterion_main!(group);
