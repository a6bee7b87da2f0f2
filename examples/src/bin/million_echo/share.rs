//! Who connects to whom: how many connections each load process opens to each server process.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::load_connect::SOURCES;
use crate::options::Spread;
use crate::protocol::{LoadPlan, Target};
use crate::session::Session;

/// The first source address of the first load process; 127.64.0.0 to 127.127.255.255 are for sources.
const SOURCE_BASE: u32 = u32::from_be_bytes([127, 64, 0, 0]);

/// The plans of all load processes.
pub(crate) fn out(session: &Session) -> Vec<LoadPlan> {
    let addresses: Vec<SocketAddrV4> = session.listening();
    let (plan, settings) = (&session.plan, &session.settings);
    let room = match (session.external, plan.spread) {
        (true, _) => u64::MAX,
        // Servers that did not start take their room with them.
        (false, Spread::Exact) => session.system.connections_a_process() * addresses.len() as u64,
        (false, Spread::Kernel) => plan.connections * addresses.len() as u64 / plan.servers,
    };
    let mut targets = addresses;
    if plan.spread == Spread::Kernel {
        targets.truncate(1);
    }
    let total = plan.connections.min(room);
    let (to_servers, to_loads) = (even(total, targets.len()), even(total, plan.loads as usize));
    matrix(&to_servers, &to_loads)
        .into_iter()
        .enumerate()
        .map(|(index, row)| LoadPlan {
            targets: row
                .into_iter()
                .map(|(server, connections)| Target {
                    address: targets[server],
                    connections: connections as u32,
                })
                .collect(),
            first_source: Ipv4Addr::from(SOURCE_BASE + index as u32 * SOURCES),
            per_source: plan.per_source as u32,
            connecting: plan.connecting as u32,
            in_flight: (settings.in_flight / plan.loads as u32).max(1),
            rounds: settings.rounds,
            payload: settings.payload,
            patience_s: settings.patience,
        })
        .collect()
}

/// `total` in `parts` parts that differ by at most one.
fn even(total: u64, parts: usize) -> Vec<u64> {
    let count = parts as u64;
    (0..count)
        .map(|index| total / count + u64::from(index < total % count))
        .collect()
}

/// For each load process the servers it connects to, and how often: in order, so that each has few.
fn matrix(to_servers: &[u64], to_loads: &[u64]) -> Vec<Vec<(usize, u64)>> {
    let (mut server, mut given) = (0, 0);
    to_loads
        .iter()
        .map(|share| {
            let (mut row, mut left) = (Vec::new(), *share);
            while left > 0 && server < to_servers.len() {
                let now = left.min(to_servers[server] - given);
                if now > 0 {
                    row.push((server, now));
                }
                left -= now;
                given += now;
                if given == to_servers[server] {
                    (server, given) = (server + 1, 0);
                }
            }
            row
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_differ_by_one() {
        assert_eq!(even(10, 3), [4, 3, 3]);
        assert_eq!(even(2, 3), [1, 1, 0]);
    }

    #[test]
    fn every_server_gets_exactly_its_share() {
        for (total, servers, loads) in [
            (1_000_000, 51, 51),
            (100_000, 6, 5),
            (7, 3, 2),
            (3, 5, 1),
            (5, 1, 4),
        ] {
            let (to_servers, to_loads) = (even(total, servers), even(total, loads));
            let rows = matrix(&to_servers, &to_loads);
            let mut received = vec![0; servers];
            for (row, share) in rows.iter().zip(&to_loads) {
                assert_eq!(row.iter().map(|(_, count)| count).sum::<u64>(), *share);
                row.iter().for_each(|(server, count)| received[*server] += count);
            }
            assert_eq!(received, to_servers);
        }
    }
}
