//! A load process: raw epoll, told what to do by the main process.
//!
//! It holds its connections in one array and does nothing on its own: each order is one phase, and between phases it only
//! watches for broken connections and the next order. When its standard input ends, so does it.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::load_connection::{Buffers, Connection, Outcome, Readable};
use crate::platform::die_with_parent;
use crate::protocol::{Event, LoadPlan, Order, emit};
use crate::{load_connect, load_echo};

/// Standard input among the connections' tokens.
const ORDERS: Token = Token(usize::MAX);
/// How long a phase waits for events before it looks at its deadline and reports.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Entry of the hidden `load-worker` command.
pub(crate) fn run() -> ExitCode {
    match die_with_parent()
        .and_then(|()| LoadWorker::new())
        .and_then(LoadWorker::serve)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            emit(&Event::Trouble {
                what: error.to_string(),
            });
            ExitCode::FAILURE
        }
    }
}

/// State of a load process.
#[derive(Debug)]
pub(crate) struct LoadWorker {
    pub(crate) poll: Poll,
    events: Events,
    /// Connections the last `turn` has events for.
    pub(crate) ready: Vec<(usize, Readable)>,
    partial_line: Vec<u8>,
    pub(crate) orders: VecDeque<Order>,
    pub(crate) plan: LoadPlan,
    pub(crate) connections: Vec<Connection>,
    pub(crate) buffers: Buffers,
    /// Connections that broke while no phase ran.
    pub(crate) lost: Vec<crate::protocol::Failure>,
}

impl LoadWorker {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        rustix::io::ioctl_fionbio(io::stdin(), true)?;
        poll.registry()
            .register(&mut SourceFd(&libc::STDIN_FILENO), ORDERS, Interest::READABLE)?;
        let plan = LoadPlan {
            targets: Vec::new(),
            first_source: std::net::Ipv4Addr::LOCALHOST,
            per_source: 1,
            connecting: 1,
            in_flight: 1,
            rounds: 0,
            payload: 1,
            patience_s: 1,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            ready: Vec::new(),
            partial_line: Vec::new(),
            orders: VecDeque::new(),
            plan,
            connections: Vec::new(),
            buffers: Buffers::new(1),
            lost: Vec::new(),
        })
    }

    /// Carries out orders until the main process closes the pipe.
    fn serve(mut self) -> io::Result<()> {
        loop {
            match self.orders.pop_front() {
                Some(Order::Plan(plan)) => {
                    self.buffers = Buffers::new(plan.payload);
                    self.plan = plan;
                    emit(&Event::Ready { address: None });
                }
                Some(Order::Connect) => load_connect::run(&mut self)?,
                Some(Order::Echo) => load_echo::run(&mut self)?,
                // The phase they mean is over already.
                Some(Order::StopConnecting | Order::StopEchoing) => {}
                None => self.watch()?,
            }
        }
    }

    /// Between phases: only the end of a connection can happen.
    fn watch(&mut self) -> io::Result<()> {
        self.turn(None)?;
        for (index, readable) in std::mem::take(&mut self.ready) {
            if let Outcome::Failed(failure) =
                self.connections[index].advance(readable, self.plan.payload, &mut self.buffers)
            {
                self.lost.push(failure);
            }
        }
        Ok(())
    }

    /// Waits for events, at most `timeout`: fills `ready` and `orders`.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error)
            };
        }
        let mut ordered = false;
        for event in &self.events {
            if event.token() == ORDERS {
                ordered = true;
                continue;
            }
            let closed = event.is_read_closed() || event.is_error();
            self.ready.push((
                event.token().0,
                Readable {
                    data: event.is_readable(),
                    closed,
                },
            ));
        }
        if ordered { self.read_orders() } else { Ok(()) }
    }

    fn read_orders(&mut self) -> io::Result<()> {
        let mut chunk = [0; 2048];
        loop {
            match rustix::io::read(io::stdin(), &mut chunk) {
                // The main process is gone or done: nothing here is worth an orderly end.
                Ok(0) => std::process::exit(0),
                Ok(count) => self.partial_line.extend_from_slice(&chunk[..count]),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(end) = self.partial_line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial_line.drain(..=end).collect();
            self.orders.push_back(serde_json::from_slice(&line)?);
        }
        Ok(())
    }

    /// Takes `order` out of the queue if it has come.
    pub(crate) fn take_order(&mut self, order: &Order) -> bool {
        let before = self.orders.len();
        self.orders.retain(|queued| queued != order);
        self.orders.len() < before
    }
}
