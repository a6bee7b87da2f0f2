//! A cache line that several CPUs use: who has it, who has a copy, and until when it is under way.
//!
//! A write by a CPU that has not got the line alone fetches it; fetches of one line are served one after the other.
//! That is the whole contention model of an atomic: with n writers each waits for n - 1 transfers.

use super::costs::Costs;

/// Most CPUs of a model, foreign threads and the monitor included.
pub(crate) const CPUS_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    owner: usize,
    shared_by: [u64; CPUS_MAX / 64],
    shared: bool,
    free_at: u64,
}

/// Nanoseconds to bring a line from one CPU to another.
pub(crate) fn transfer(costs: &Costs, from: usize, to: usize) -> u64 {
    if from == to {
        0
    } else if from / costs.cluster as usize == to / costs.cluster as usize {
        costs.transfer_near
    } else if from / costs.socket as usize == to / costs.socket as usize {
        costs.transfer_far
    } else {
        costs.transfer_socket
    }
}

impl Line {
    pub(crate) fn new(owner: usize) -> Line {
        Line {
            owner,
            shared_by: [0; CPUS_MAX / 64],
            shared: false,
            free_at: 0,
        }
    }

    /// A write by `cpu` that begins at `now`: how long it waits for the line.
    pub(crate) fn write(&mut self, costs: &Costs, cpu: usize, now: u64) -> u64 {
        if self.owner == cpu && !self.shared {
            return 0;
        }
        // Another's only copy, or the copies that must go: the farther of the owner and a neighbour.
        let cost = if self.owner == cpu {
            costs.transfer_near
        } else {
            transfer(costs, self.owner, cpu)
        };
        let done = self.free_at.max(now) + cost;
        self.free_at = done;
        self.owner = cpu;
        if self.shared {
            self.shared_by = [0; CPUS_MAX / 64];
            self.shared = false;
        }
        done - now
    }

    /// As [`Line::write`], for a read: it leaves copies with the others, and hinders them for less long.
    pub(crate) fn read(&mut self, costs: &Costs, cpu: usize, now: u64) -> u64 {
        let (word, bit) = (cpu / 64, 1 << (cpu % 64));
        if self.owner == cpu || self.shared_by[word] & bit != 0 {
            return 0;
        }
        let begin = self.free_at.max(now);
        self.free_at = begin + costs.read_occupancy;
        self.shared_by[word] |= bit;
        self.shared = true;
        begin + transfer(costs, self.owner, cpu) - now
    }
}

#[cfg(test)]
mod tests {
    use super::{Costs, Line};

    #[test]
    fn a_line_at_hand_is_free_and_writers_queue_for_it() {
        let costs = Costs::default();
        let mut line = Line::new(0);
        assert_eq!(line.write(&costs, 0, 0), 0);
        assert_eq!(line.write(&costs, 1, 0), costs.transfer_near);
        assert_eq!(line.write(&costs, 2, 0), 2 * costs.transfer_near);
        let later = 10 * costs.transfer_near;
        assert_eq!(line.read(&costs, 3, later), costs.transfer_near);
        assert_eq!(line.read(&costs, 3, later), 0, "a copy is at hand");
        assert_eq!(
            line.write(&costs, 2, 2 * later),
            costs.transfer_near,
            "the copy must go"
        );
        assert_eq!(line.write(&costs, 2, 2 * later), 0);
        assert_eq!(
            line.write(&costs, 200, 2 * later),
            costs.transfer_near + costs.transfer_socket
        );
    }
}
