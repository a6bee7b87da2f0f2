//! See `bast_benches`: the operations of the group `pool`.

use criterion::{Criterion, criterion_group, criterion_main};

fn pool(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "pool");
}

criterion_group!(name = group; config = bast_benches::short(); targets = pool);
criterion_main!(group);
