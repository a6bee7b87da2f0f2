//! See `bast_benches`: the operations of the group `steal`.

use criterion::{Criterion, criterion_group, criterion_main};

fn steal(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "steal");
}

criterion_group!(name = group; config = bast_benches::short(); targets = steal);
criterion_main!(group);
