//! What the execution trace costs an echo server: throughput with the trace on beside throughput with it off.
//!
//! Both in one process and over the same connections, in windows that take turns: between two processes, or two runs,
//! this differs by more than the trace costs. The load comes from a process of its own.

use crate::memory::cpu_nanos;
use crate::options::Work;
use crate::process::Launcher;
use crate::run::bast_runtime;
use crate::served::load_arguments;
use crate::stats::median;
use bast::net::{TcpListener, TcpStream};
use clap::Args;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 16 << 10;
/// After a change, before a window begins.
const SETTLE: Duration = Duration::from_millis(30);
/// Before the first window.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Args)]
pub(crate) struct CostOptions {
    /// Pairs of windows
    #[arg(long, default_value_t = 150)]
    pairs: usize,
    /// Length of a window; many short ones tell more than a few long ones, as the machine changes meanwhile
    #[arg(long, default_value_t = 100)]
    window_millis: u64,
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Of a message
    #[arg(long, default_value_t = 32)]
    bytes: usize,
    /// Where the traces go, one after the other
    #[arg(long, default_value = "/dev/null", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    work: Work,
}

/// Messages of one connection, which its task alone counts: on a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

type Counts = Arc<Mutex<Vec<Arc<Count>>>>;

/// What a window has seen.
#[derive(Clone, Copy, Debug)]
struct Window {
    a_second: f64,
    cpu_each: f64,
}

/// Measures, and prints what it has found.
pub(crate) fn run(options: &CostOptions) -> Result<(), String> {
    if options.pairs == 0 || options.connections == 0 || options.window_millis == 0 {
        return Err("--pairs, --connections and --window-millis must be at least 1".to_owned());
    }
    let launcher = Launcher::new(options.work)?;
    let counts = Counts::default();
    let runtime = bast_runtime(options.work, bast::Builder::new().stack_size(64 << 10));
    let (tell, told) = mpsc::channel();
    let of_server = Arc::clone(&counts);
    // It accepts for ever: the process ends with it.
    thread::spawn(move || {
        runtime.run(|| {
            let served = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
                let port = listener.local_addr()?.port();
                let _ = tell.send(port);
                accept_all(&listener, &of_server)
            });
            served.unwrap_or_else(|error| eprintln!("rivals: the server: {error}"));
        });
    });
    let port = told.recv().map_err(|_| "there is no server")?;
    measure(options, &launcher, port, &counts)
}

fn accept_all(listener: &TcpListener, counts: &Counts) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let count = Arc::new(Count::default());
        lock(counts).push(Arc::clone(&count));
        bast::spawn(move || echo(stream, &count));
    }
}

fn echo(mut stream: TcpStream, count: &Count) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
        count.0.store(count.0.load(Relaxed) + 1, Relaxed);
    }
}

fn lock(counts: &Counts) -> std::sync::MutexGuard<'_, Vec<Arc<Count>>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn measure(options: &CostOptions, launcher: &Launcher, port: u16, counts: &Counts) -> Result<(), String> {
    let length = Duration::from_millis(options.window_millis);
    let all = (length + 2 * SETTLE) * 2 * u32::try_from(options.pairs).map_err(|error| error.to_string())?;
    let arguments = load_arguments(&port.to_string(), options.connections, options.bytes, 1);
    // Longer than is needed: it is killed at the end.
    let _load = launcher.start_load_for(2 * all + 2 * WARM_UP, "closed", &arguments)?;
    let since = Instant::now();
    while lock(counts).len() < options.connections {
        if since.elapsed() > Duration::from_secs(30) {
            return Err("the client does not connect".to_owned());
        }
        sleep(Duration::from_millis(1));
    }
    let counts = lock(counts).clone();
    sleep(WARM_UP);
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for pair in 0..options.pairs {
        // Which comes first takes turns too: a drift cancels out.
        for traced in [pair % 2 == 0, pair % 2 != 0] {
            let trace = match traced {
                true => Some(trace_to(&options.file)?),
                false => None,
            };
            sleep(SETTLE);
            let window = look(&counts, length)?;
            if let Some(trace) = trace {
                let summary = trace.stop().map_err(|error| format!("the trace: {error}"))?;
                if summary.lost_generations > 0 {
                    return Err("the writer did not keep up: parts of a trace are missing".to_owned());
                }
                on.push(window);
            } else {
                off.push(window);
            }
        }
    }
    report(&off, &on);
    Ok(())
}

fn trace_to(path: &PathBuf) -> Result<bast::trace::Guard, String> {
    File::create(path)
        .and_then(bast::trace::start)
        .map_err(|error| format!("cannot trace to {}: {error}", path.display()))
}

fn look(counts: &[Arc<Count>], length: Duration) -> Result<Window, String> {
    let messages = || counts.iter().map(|count| count.0.load(Relaxed)).sum::<u64>();
    let (start, before, cpu_before) = (Instant::now(), messages(), cpu_nanos("self")?);
    sleep(length);
    let (took, count, cpu) = (
        start.elapsed(),
        messages() - before,
        cpu_nanos("self")?.saturating_sub(cpu_before),
    );
    if count == 0 {
        return Err("nothing was echoed for a whole window".to_owned());
    }
    Ok(Window {
        a_second: count as f64 / took.as_secs_f64(),
        cpu_each: cpu as f64 / count as f64,
    })
}

fn report(off: &[Window], on: &[Window]) {
    let column = |windows: &[Window], of: fn(&Window) -> f64| windows.iter().map(of).collect::<Vec<_>>();
    let (off_rate, on_rate) = (
        column(off, |window| window.a_second),
        column(on, |window| window.a_second),
    );
    let (off_cpu, on_cpu) = (
        column(off, |window| window.cpu_each),
        column(on, |window| window.cpu_each),
    );
    let lost: Vec<f64> = off_rate
        .iter()
        .zip(&on_rate)
        .map(|(off, on)| 100.0 * (1.0 - on / off))
        .collect();
    let more: Vec<f64> = off_cpu.iter().zip(&on_cpu).map(|(off, on)| on - off).collect();
    println!(
        "messages/s   off {:.0}   on {:.0}",
        median(&off_rate),
        median(&on_rate)
    );
    println!(
        "CPU/message  off {:.0} ns   on {:.0} ns",
        median(&off_cpu),
        median(&on_cpu)
    );
    let [low, high] = middle_of_medians(&lost);
    println!(
        "throughput lost  {:.2}%  (95%: {low:.2} to {high:.2})",
        median(&lost)
    );
    let [low, high] = middle_of_medians(&more);
    println!(
        "CPU more a message  {:.0} ns  (95%: {low:.0} to {high:.0})",
        median(&more)
    );
}

/// Between which values the median lies with 95% confidence: by the ranks, whatever the distribution.
fn middle_of_medians(values: &[f64]) -> [f64; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (count, last) = (sorted.len() as f64, sorted.len().saturating_sub(1));
    let reach = 1.96 * count.sqrt() / 2.0;
    let low = (count / 2.0 - reach).floor().max(0.0) as usize;
    let high = ((count / 2.0 + reach).ceil() as usize).min(last);
    match sorted.is_empty() {
        true => [f64::NAN; 2],
        false => [sorted[low.min(last)], sorted[high]],
    }
}

#[cfg(test)]
mod tests {
    use super::middle_of_medians;

    #[test]
    fn the_middle_narrows_with_the_number() {
        let few: Vec<f64> = (0..5).map(f64::from).collect();
        assert_eq!(middle_of_medians(&few), [0.0, 4.0]);
        let many: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(middle_of_medians(&many), [40.0, 61.0]);
    }
}
