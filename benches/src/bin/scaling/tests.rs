//! The model against what is known without it.

use super::costs::Costs;
use super::report;
use super::sim::{Cpu, Sim};
use super::steps::{Section, Step};
use super::tasks::{Kind, Workload};
use clap::ValueEnum;

/// Long enough for any run here.
const LONG: u64 = 10_000_000_000;

/// Who counts as searching: those who do, those who are woken for it, and claims on the way to somebody.
fn searchers(sim: &Sim) -> usize {
    let claims = |step: &&Step| {
        matches!(
            step,
            Step::Lock(_, Section::WakePop) | Step::Under(_, Section::WakePop)
        )
    };
    let of = |cpu: &Cpu| {
        usize::from(cpu.searching) + usize::from(cpu.handed) + cpu.todo.iter().filter(claims).count()
    };
    sim.cpus.iter().map(of).sum()
}

#[test]
fn every_task_runs_once_and_all_time_is_accounted_for() {
    for &workload in Workload::value_variants() {
        for processors in [1, 2, 7, 16, 64] {
            for domains in [1, 3] {
                let costs = Costs {
                    domains,
                    ..Costs::default()
                };
                let mut sim = Sim::of(costs, processors, workload, 7, 20);
                let end = sim.run(LONG);
                let what = format!("{workload:?}, {processors} processors, {domains} domains");
                assert!(end < LONG, "{what}: it hangs");
                let spent: u64 = sim.cpus[..processors].iter().flat_map(|cpu| cpu.spent).sum();
                assert_eq!(spent, end * processors as u64, "{what}: the account of time");
                let counted: usize = sim.domains.iter().map(|domain| domain.searching).sum();
                assert_eq!(searchers(&sim), counted, "{what}: the searchers");
                if !matches!(workload, Workload::Echo50 | Workload::Echo90) {
                    let mut ends = sim.tasks.iter().map(|task| task.runs_ended);
                    assert!(
                        ends.all(|count| count == 1),
                        "{what}: a task ran twice or not at all"
                    );
                    assert_eq!(
                        (sim.tally.spawned, sim.tally.finished),
                        (sim.tasks.len() as u64, sim.tasks.len() as u64)
                    );
                }
            }
        }
    }
}

#[test]
fn without_costs_the_speed_up_is_ideal() {
    for processors in [1, 4, 16, 64] {
        let mut sim = Sim::of(Costs::free(), processors, Workload::Fanout50us, 3, 1);
        let tasks = match sim.tasks[0].kind {
            Kind::Root { count } => u64::from(count),
            _ => unreachable!("the root spawns"),
        };
        let ideal = tasks * 50_000 / processors as u64;
        let end = sim.run(LONG);
        assert!(
            end >= ideal,
            "{processors}: faster than possible: {end} < {ideal}"
        );
        assert!(
            end <= ideal + ideal / 20 + 100_000,
            "{processors}: {end} instead of {ideal}"
        );
    }
}

#[test]
fn a_lock_held_for_h_saturates_at_one_over_h() {
    const HOLD: u64 = 500;
    const TIME: u64 = 10_000_000;
    for spins_on in [0, 1] {
        for (contenders, hand_over) in [(1, 0), (8, 0), (8, 100), (64, 100)] {
            let mut costs = Costs::free();
            costs.lock_spins_on = spins_on;
            costs.lock_spin = 1_000_000; // long enough for all of them
            (costs.transfer_near, costs.transfer_far) = (hand_over, hand_over);
            let mut sim = Sim::new(costs, contenders, 0, 1);
            for cpu in 0..contenders {
                sim.cpus[cpu].blocked = false;
                sim.cpus[cpu].todo = vec![Step::Contend(HOLD)];
                sim.schedule(cpu);
            }
            sim.run(TIME);
            let ideal = TIME / (HOLD + hand_over);
            let held = sim.tally.messages;
            assert!(
                held.abs_diff(ideal) <= 1 + ideal / 100,
                "{contenders}: {held} holds instead of {ideal}"
            );
        }
    }
}

#[test]
fn a_mutex_that_asks_the_kernel_loses_nobody() {
    let mut sim = Sim::new(Costs::default(), 32, 0, 1);
    for cpu in 0..32 {
        sim.cpus[cpu].blocked = false;
        sim.cpus[cpu].todo = vec![Step::Contend(300)];
        sim.schedule(cpu);
    }
    sim.run(100_000_000);
    assert!(sim.tally.lock_sleeps > 0, "nobody asked the kernel");
    let turns: Vec<u32> = sim.cpus[..32].iter().map(|cpu| cpu.tick).collect();
    assert!(
        turns.iter().all(|&turns| turns > 1),
        "somebody was never woken: {turns:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let run = |seed| report::outcome(&Costs::default(), 16, Workload::Skynet, seed, 10);
    assert_eq!(run(1).nanos, run(1).nanos);
    assert_ne!(run(1).nanos, run(2).nanos);
}

#[test]
fn what_costs_more_takes_longer() {
    let run = |name: &str, value| {
        let mut costs = Costs::default();
        assert!(costs.set(name, value), "{name}");
        report::outcome(&costs, 64, Workload::Foreign, 1, 4).rate
    };
    assert!(run("lock_hold", 1_000) < run("lock_hold", 25));
    assert!(run("transfer_far", 1_000) < run("transfer_far", 50));
}
