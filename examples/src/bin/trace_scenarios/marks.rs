//! The user's own words: tasks within tasks, regions within regions, logs, and a name.

use std::sync::Arc;
use std::time::Duration;

/// Requests that hand parts of their work to other tasks.
pub(crate) fn all() {
    let requests: Vec<_> = (0..20)
        .map(|index| {
            let builder = bast::task::Builder::new().name(format!("request {index}"));
            builder.spawn(move || request(index)).expect("spawn")
        })
        .collect();
    for request in requests {
        request.join().expect("request");
    }
    let left = std::panic::catch_unwind(|| {
        bast::trace::region("left by a panic", || std::panic::resume_unwind(Box::new(())))
    });
    assert!(left.is_err(), "it panics");
}

fn request(index: u64) {
    let request = Arc::new(bast::trace::task("request"));
    request.region("parse", || {
        bast::task::yield_now();
        request.region("header", || request.log("index", &index.to_string()));
    });
    let part = request.task("look up");
    let other = bast::spawn(move || {
        part.region("far away", || bast::time::sleep(Duration::from_micros(300)));
        part.log("rows", "3");
    });
    request.region("wait", || other.join().expect("look up"));
    bast::trace::log("done", &format!("request {index}"));
}
