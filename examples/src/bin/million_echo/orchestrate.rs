//! The run as a whole: servers, load, connecting, echo rounds, report, in this order.
//!
//! Each phase ends when all its processes have answered, when nothing moved for longer than the patience (whoever is
//! silent then is ended and reported), or on Ctrl-C. What was reached is reported in every case.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;

use crate::family::Who;
use crate::limits::System;
use crate::memory::{RSS_SOURCE, Snapshot};
use crate::options::{LoadOptions, LoadSettings, RunOptions, ServerProcesses, ServerSettings, Spread};
use crate::plan::{self, Plan, Wish};
use crate::report::{Ended, Latency, Report, grouped};
use crate::session::Session;
use crate::share;
use crate::tally::Server;

/// Entry without a subcommand.
pub(crate) fn run(options: &RunOptions) -> ExitCode {
    let wish = Wish {
        connections: options.load.connections,
        server_processes: options.server_processes,
        load_processes: options.load.load_processes,
        spread: options.spread,
        stack_size: options
            .server
            .backend
            .has_stacks()
            .then_some(options.server.stack_size),
        external: false,
    };
    finish(
        &options.load,
        start(&wish, &options.load).and_then(|mut session| {
            start_servers(&mut session, options)?;
            let backend = (options.server.backend.word(), wish.stack_size);
            measure(session, backend)
        }),
    )
}

/// Entry of `load`.
pub(crate) fn load(options: &LoadOptions) -> ExitCode {
    let wish = Wish {
        connections: options.load.connections,
        server_processes: ServerProcesses::Count(options.pid.len().max(1) as u32),
        load_processes: options.load.load_processes,
        spread: Spread::Kernel,
        stack_size: None,
        external: true,
    };
    finish(
        &options.load,
        start(&wish, &options.load).and_then(|mut session| {
            session.servers.push(Server {
                address: Some(SocketAddrV4::new(options.address, options.port)),
                pids: options.pid.clone(),
                alive: true,
            });
            measure(session, ("external", None))
        }),
    )
}

/// Prints and writes the report, and turns it into an exit code.
fn finish(settings: &LoadSettings, report: io::Result<Report>) -> ExitCode {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whoever reads it may be gone already; the file is still to be written.
    let _ = io::stdout().write_all(report.table().as_bytes());
    if let Some(path) = &settings.json
        && let Err(error) = report.write_json(path)
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    match report.ended {
        Ended::Interrupted => ExitCode::from(130),
        Ended::Complete if report.is_clean() => ExitCode::SUCCESS,
        Ended::Complete => ExitCode::FAILURE,
    }
}

/// Plans the run and says what limits it.
fn start(wish: &Wish, settings: &LoadSettings) -> io::Result<Session> {
    // Found now rather than after the run.
    if let Some(path) = &settings.json {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
            })?;
    }
    let system = System::prepare();
    let plan = plan::decide(wish, &system);
    let stopped: Vec<String> = plan
        .limits
        .iter()
        .filter(|limit| limit.stopped)
        .map(plan::Limit::explain)
        .collect();
    if plan.connections == 0 {
        return Err(io::Error::other(format!(
            "no connection fits\n{}",
            stopped.join("\n")
        )));
    }
    for line in &stopped {
        eprintln!("{line}");
    }
    if !stopped.is_empty() {
        eprintln!(
            "carrying on with {} of {} connections",
            grouped(plan.connections),
            grouped(plan.requested)
        );
    }
    Session::new(plan, system, settings.clone(), wish.external)
}

/// Starts the server processes and waits until they listen.
fn start_servers(session: &mut Session, options: &RunOptions) -> io::Result<()> {
    let count = session.plan.servers as usize;
    session.progress.begin("servers", count as u64);
    let mut port = options.port;
    for index in 0..count {
        let arguments = server_arguments(
            session,
            &options.server,
            server_address(index, count, options.spread),
            port,
        );
        session.start(Who::Server(index), &arguments)?;
        if index == 0 {
            // The others share the port that the first one got.
            session.wait(|session| session.servers[0].is_settled());
            port = session.servers[0].address.map_or(port, |address| address.port());
        }
        if session.interrupted || !session.servers[0].alive {
            break;
        }
    }
    session.wait(|session| session.servers.iter().all(Server::is_settled));
    let up = session
        .servers
        .iter()
        .filter(|server| server.alive && server.address.is_some())
        .count();
    session
        .progress
        .end(&format!("servers: {up} of {count} listen on port {port}"));
    if up == 0 && !session.interrupted {
        return Err(io::Error::other("no server process could be started (see above)"));
    }
    Ok(())
}

fn server_arguments(session: &Session, server: &ServerSettings, address: Ipv4Addr, port: u16) -> Vec<String> {
    let mut arguments = vec!["serve".to_string(), "--controlled".into()];
    let mut option = |name: &str, value: String| arguments.extend([name.to_string(), value]);
    option("--address", address.to_string());
    option("--port", port.to_string());
    option("--backend", server.backend.word().into());
    option("--stack-size", server.stack_size.to_string());
    let share = (session.system.cpus / session.plan.servers).max(1) as usize;
    option("--processors", server.processors.unwrap_or(share).to_string());
    if let Some(trace) = &server.trace {
        // One file a server: they have ports or addresses of their own.
        let file = match session.plan.servers {
            1 => trace.display().to_string(),
            _ => format!("{}.{address}.{port}", trace.display()),
        };
        option("--trace", file);
    }
    arguments
}

/// Where a server listens: by itself on localhost, else each on a loopback address of its own, or all on the same one.
fn server_address(index: usize, count: usize, spread: Spread) -> Ipv4Addr {
    if count == 1 || spread == Spread::Kernel {
        return Ipv4Addr::LOCALHOST;
    }
    Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250) as u8 + 1)
}

/// Everything after the servers listen.
fn measure(mut session: Session, backend: (&'static str, Option<usize>)) -> io::Result<Report> {
    let shares = share::out(&session);
    session.start_loads(&shares)?;
    let pids = session.server_pids();
    let before = Snapshot::take(&pids);
    session.connect();
    let after = Snapshot::take(&pids);
    session.echo();
    session.family.end_all();
    Ok(report(session, backend, &before, &after))
}

fn report(
    session: Session,
    (backend, stack_size): (&'static str, Option<usize>),
    before: &Snapshot,
    after: &Snapshot,
) -> Report {
    let growth = after.since(before);
    let sums = session.sums();
    let Session {
        plan,
        settings,
        servers,
        loads,
        limits_hit,
        events,
        interrupted,
        latencies,
        ..
    } = session;
    let Plan {
        requested,
        connections: planned,
        mut limits,
        ..
    } = plan;
    for limit in &mut limits {
        limit.stopped |= limits_hit.contains(&limit.kind);
    }
    let each = |bytes: Option<i64>| {
        bytes
            .filter(|_| sums.connections > 0)
            .map(|bytes| (bytes as f64 / sums.connections as f64 * 10.0).round() / 10.0)
    };
    Report {
        connections: sums.connections,
        failed: planned.saturating_sub(sums.connections),
        lost: sums.lost,
        requested,
        ended: if interrupted {
            Ended::Interrupted
        } else {
            Ended::Complete
        },
        connect_per_s: sums.connect_per_s,
        echoes: sums.echoes,
        echo_per_s: sums.echo_per_s,
        latency_us: Latency::of(&latencies),
        server_rss_bytes_per_connection: each(growth.private),
        server_rss_source: RSS_SOURCE,
        server_page_table_bytes_per_connection: each(growth.page_tables),
        kernel_slab_bytes_per_connection: each(growth.slab),
        worker_threads: after.threads(),
        server_processes: servers.iter().map(|server| server.pids.len().max(1)).sum(),
        load_processes: loads.len(),
        backend,
        stack_size,
        rounds: settings.rounds,
        payload_bytes: settings.payload,
        in_flight: settings.in_flight,
        limits,
        events,
    }
}
