//! See `bast_benches`: the operations of the group `spawn`.

use criterion::{Criterion, criterion_group, criterion_main};

fn spawn(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "spawn");
}

criterion_group!(name = group; config = bast_benches::short(); targets = spawn);
criterion_main!(group);
