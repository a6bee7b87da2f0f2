//! See `bast_benches`: the operations of the group `tcp`.

use criterion::{Criterion, criterion_group, criterion_main};

fn tcp(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "tcp");
}

criterion_group!(name = group; config = bast_benches::short(); targets = tcp);
criterion_main!(group);
