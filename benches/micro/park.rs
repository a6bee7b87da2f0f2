//! See `bast_benches`: the operations of the group `park`.

use criterion::{Criterion, criterion_group, criterion_main};

fn park(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "park");
}

criterion_group!(name = group; config = bast_benches::short(); targets = park);
criterion_main!(group);
