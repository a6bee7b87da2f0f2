//! What things cost, in nanoseconds, each with where the figure comes from. The kernel's and the hardware's can be
//! measured anew with `--calibrate`; any can be set with `--set NAME=VALUE`.

macro_rules! costs {
    ($($(#[$doc:meta])* $name:ident: $default:expr, $source:expr;)*) => {
        /// See the module.
        #[derive(Clone, Debug, serde::Serialize)]
        pub(crate) struct Costs { $($(#[$doc])* pub(crate) $name: u64,)* }

        impl Default for Costs {
            fn default() -> Costs {
                Costs { $($name: $default,)* }
            }
        }

        impl Costs {
            /// Everything is free, and nothing differs from bast's own protocol.
            #[cfg(test)]
            pub(crate) fn free() -> Costs {
                let mut costs = Costs { $($name: 0,)* };
                let real = Costs::default();
                (costs.domains, costs.wake_width) = (real.domains, real.wake_width);
                (costs.cluster, costs.socket) = (real.cluster, real.socket);
                costs.overlap = real.overlap;
                costs
            }

            /// Sets the cost called `name`; false: there is none.
            pub(crate) fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }

            /// Name, value and source of each.
            pub(crate) fn rows(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name, $source),)*]
            }
        }
    };
}

const COUNTS: &str = "counts, `spawn/one, join it` (106 to 140) and `park/round trip of 2 tasks` (69 to 101), 1 processor; how it splits is estimated";
const CALIBRATED: &str = "--calibrate";
const ASSUMED: &str = "assumption: the usual order of magnitude, no source checked; try half and twice";
const ESTIMATED: &str = "estimate: instructions and lines touched, read from the source";
const CHOICE: &str = "setting";

costs! {
    /// A spawn, up to the task in the next slot.
    spawn: 55, COUNTS;
    /// A task's end, from its last instruction to the next task's first.
    finish: 45, COUNTS;
    /// Looking at a join handle whose task is over.
    join: 30, COUNTS;
    /// Parking, picking the next task and switching to it.
    park: 25, COUNTS;
    /// Making a parked task runnable.
    unpark: 12, COUNTS;
    /// Arming and disarming a timer.
    timer_arm: 90, "counts, `timer/insert and cancel`: the lowest of 89 to 337";
    /// Taking a due timer out and making its task runnable.
    timer_fire: 90, "estimate: as arming";
    /// Server's work for a message: one `recv`, one `send`, the task's switch.
    echo_message: 8_000, "rivals, echo_100.32b_cpu (8678), less an estimate for polling";
    /// A cache line from another core of the same L3.
    transfer_near: 95, "--calibrate, half of a hand-over, which takes a fetch and an upgrade";
    /// From another L3 of the same socket.
    transfer_far: 150, ASSUMED;
    /// From the other socket.
    transfer_socket: 300, ASSUMED;
    /// Read-modify-write on a line at hand.
    rmw: 3, CALIBRATED;
    /// How long a reader's request keeps others off the line.
    read_occupancy: 15, ASSUMED;
    /// Looking at a victim whose lines are at hand, or at one entry of a list.
    look: 3, ESTIMATED;
    /// Instructions under the scheduler's lock, without what grows with the number of entries.
    lock_hold: 25, ESTIMATED;
    /// Instructions for one task moved under a lock, its header at hand.
    move_task: 3, ESTIMATED;
    /// How long std's mutex spins before it asks the kernel: 100 pauses.
    lock_spin: 2_700, CALIBRATED;
    /// `futex(WAKE)` or `write(eventfd)`, for the caller.
    futex_wake: 10_000, CALIBRATED;
    /// From there until the sleeping thread runs.
    wake_latency: 6_800, CALIBRATED;
    /// `clone`, for the caller, and until the thread runs.
    thread_start: 20_000, "--calibrate, half of a start and join";
    /// `epoll_wait(0)` that finds nothing.
    epoll_empty: 150, CALIBRATED;
    /// What each event adds to it, made runnable included.
    epoll_event: 200, "--calibrate, 120 to 250 for the kernel's part, and the unpark";
    /// Independent misses that one core has under way at once.
    overlap: 6, ASSUMED;
    /// CPUs on an L3.
    cluster: 8, CHOICE;
    /// CPUs on a socket.
    socket: 128, CHOICE;
    /// Design: parts with a lock, a global queue, an idle list and a poller each. bast: 1.
    domains: 1, CHOICE;
    /// Design: workers that may be on their way as searchers at once, because of a publisher. bast: 1.
    wake_width: 1, CHOICE;
    /// Design: 1 = free headers move to and from the common pool as whole chains, 0 = one by one under its lock. bast: 1.
    slab_batches: 1, CHOICE;
    /// Design: 1 = tasks move to and from the global queue in chains of 32, 0 = one by one under its lock. bast: 1.
    global_batches: 1, CHOICE;
    /// Design: 1 = waiters for the scheduler's lock spin for as long as it takes. bast: 0, std's mutex.
    lock_spins_on: 0, CHOICE;
}
