//! What the operations of bast cost, one by one.
//!
//! The operations are here, so that three programs measure the same code: the benchmarks in `micro/` (`cargo bench
//! -p bast-benches`, time), `counts` (instructions, repeatable), and whoever wants to look at one under `perf`.
//!
//! An operation is a function of a runtime and a number: it does its work that many times and gives the time that
//! took. What has to be set up first is not in the time.

mod pooling;
mod spawning;
mod stealing;
mod switching;
mod tcp;
mod timing;
mod waking;

use bast::{Builder, GuardMode, Runtime};
use criterion::{Criterion, SamplingMode, Throughput};
use std::time::Duration;

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The benchmark it belongs to.
    pub group: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Processors of the runtime it runs on.
    pub processors: usize,
    /// How it is measured.
    pub how: How,
}

/// How an operation is measured.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Any number of times in a row.
    Each(fn(&Runtime, u64) -> Duration),
    /// So many at once, which belong together.
    Batch(u64, fn(&Runtime, u64) -> Duration),
}

/// An operation as its own file lists it: name, processors, how.
type Line = (&'static str, usize, How);

/// Every operation, in the order in which the benchmarks run them.
pub fn operations() -> Vec<Operation> {
    let groups: [(&'static str, Vec<Line>); 8] = [
        ("switch", switching::operations()),
        ("spawn", spawning::operations()),
        ("pool", pooling::operations()),
        ("yield_now", waking::yields()),
        ("park", waking::parks()),
        ("steal", stealing::operations()),
        ("timer", timing::operations()),
        ("tcp", tcp::operations()),
    ];
    let flat = groups.into_iter().flat_map(|(group, operations)| {
        operations
            .into_iter()
            .map(move |(name, processors, how)| Operation {
                group,
                name,
                processors,
                how,
            })
    });
    flat.collect()
}

/// A runtime to measure on.
///
/// # Panics
/// If it cannot start.
pub fn runtime(processors: usize, guard: GuardMode) -> Runtime {
    let builder = Builder::new().processors(processors).guard_mode(guard).seed(1);
    // SAFETY: the operations keep nothing bound to a thread across a call that can park.
    let built = unsafe { builder.build() };
    built.unwrap_or_else(|error| panic!("the runtime does not start: {error}"))
}

/// Short: a benchmark is done in about a second, so that all of them are in two minutes.
pub fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .sample_size(10)
        .without_plots()
        .configure_from_args()
}

/// Measures the operations of one group.
pub fn measure(criterion: &mut Criterion, group: &str) {
    let mut measured = criterion.benchmark_group(group);
    for operation in operations()
        .into_iter()
        .filter(|operation| operation.group == group)
    {
        // Made when the benchmark is really run: a filter may leave it out.
        let runtime = std::cell::OnceCell::new();
        let runtime = || runtime.get_or_init(|| self::runtime(operation.processors, GuardMode::Auto));
        match operation.how {
            How::Each(run) => {
                measured.throughput(Throughput::Elements(1));
                measured.sampling_mode(SamplingMode::Auto);
                measured.bench_function(operation.name, |bencher| {
                    bencher.iter_custom(|count| run(runtime(), count));
                });
            }
            How::Batch(size, run) => {
                let size = batch(size);
                measured.throughput(Throughput::Elements(size));
                measured.sampling_mode(SamplingMode::Flat);
                measured.bench_function(operation.name, |bencher| {
                    bencher.iter_custom(|count| (0..count).map(|_| run(runtime(), size)).sum());
                });
            }
        }
    }
    measured.finish();
}

/// A batch is smaller where speed is not the point.
fn batch(size: u64) -> u64 {
    if cfg!(debug_assertions) {
        size.div_ceil(50)
    } else {
        size
    }
}
