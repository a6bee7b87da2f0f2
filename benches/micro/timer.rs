//! See `bast_benches`: the operations of the group `timer`.

use criterion::{Criterion, criterion_group, criterion_main};

fn timer(criterion: &mut Criterion) {
    bast_benches::measure(criterion, "timer");
}

criterion_group!(name = group; config = bast_benches::short(); targets = timer);
criterion_main!(group);
