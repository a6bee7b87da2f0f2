//! Whole traces: what is printed for them, what is refused, and that no damage makes the program panic or grow.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use serde_json::Value;

use crate::attribute::Attribute;
use crate::perfetto::Perfetto;
use crate::reader::{Fault, Rules, read};
use crate::summary::Summary;
use crate::tasks::{Key, Tasks, View};
use crate::{Command, Count, Input, Options, run};

const TRACES: [&str; 5] = [
    "proof-22.trace",
    "proof-23.trace",
    "proof-25.trace",
    "proof-26.trace",
    "go-1.27.trace",
];
const STRICT: Rules = Rules {
    strict: true,
    self_contained: true,
};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "bast_trace", name]
        .iter()
        .collect()
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares with the file, or writes it if asked to.
fn golden(name: &str, printed: &str) {
    let path = path(&format!("{name}.golden"));
    if std::env::var_os("BAST_TRACE_BLESS").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        printed == expected,
        "{name} differs from {}:\n{printed}",
        path.display()
    );
}

fn printed(command: &Command) -> String {
    let mut out = Vec::new();
    let done = run(command, &mut out);
    assert!(matches!(done, Ok(true)), "{command:?}: {done:?}");
    String::from_utf8(out).unwrap()
}

fn input(name: &str, json: bool) -> Input {
    Input {
        file: path(name),
        json,
        partial: false,
    }
}

fn tasks(name: &str, json: bool, group: bool) -> Command {
    Command::Tasks {
        input: input(name, json),
        sort: Key::Wall,
        group,
        name: None,
        limit: 0,
    }
}

fn all_commands(name: &str) -> String {
    let mut text = String::new();
    for json in [false, true] {
        text += &printed(&Command::Summary(input(name, json)));
        text += &printed(&Command::Attribute(input(name, json)));
        text += &printed(&tasks(name, json, false));
        text += &printed(&tasks(name, json, true));
        text += &printed(&Command::Check {
            file: path(name),
            json,
            self_contained: true,
        });
    }
    text
}

#[test]
fn what_is_printed_for_a_real_trace() {
    golden("go-1.27", &all_commands("go-1.27.trace"));
}

#[test]
fn what_is_printed_for_the_scripted_trace() {
    golden("proof-26", &all_commands("proof-26.trace"));
    golden("proof-22", &all_commands("proof-22.trace"));
    golden(
        "perfetto",
        &printed(&Command::ToPerfetto {
            file: path("proof-26.trace"),
            output: None,
        }),
    );
}

#[test]
fn the_parts_of_every_task_add_up_to_its_life() {
    for name in TRACES {
        let lines: Value = serde_json::from_str(&printed(&tasks(name, true, false))).unwrap();
        let lines = lines.as_array().unwrap();
        assert!(lines.len() >= 10, "{name}: {} tasks", lines.len());
        let summary: Value = serde_json::from_str(&printed(&Command::Summary(input(name, true)))).unwrap();
        for line in lines {
            let figure = |key: &str| line[key].as_i64().unwrap_or_else(|| panic!("{key} of {line}"));
            let parts = [
                "running_ns",
                "runnable_ns",
                "waiting_ns",
                "network_ns",
                "syscall_ns",
            ]
            .map(figure);
            assert!(parts.iter().all(|part| *part >= 0), "{name}: {line}");
            assert_eq!(parts.iter().sum::<i64>(), figure("wall_ns"), "{name}: {line}");
            assert!(
                figure("wall_ns") <= summary["span_ns"].as_i64().unwrap(),
                "{name}: {line}"
            );
            // A task that was there from the first to the last moment lived as long as the trace.
            if figure("created") == 0 && figure("ended") == 0 {
                assert_eq!(
                    figure("wall_ns"),
                    summary["span_ns"].as_i64().unwrap(),
                    "{name}: {line}"
                );
            }
        }
        let sum: i64 = lines.iter().map(|line| line["wall_ns"].as_i64().unwrap()).sum();
        assert_eq!(sum, summary["wall_ns"].as_i64().unwrap(), "{name}");
    }
}

#[test]
fn the_script_of_the_scripted_trace_is_found_again() {
    let lines: Value = serde_json::from_str(&printed(&tasks("proof-26.trace", true, false))).unwrap();
    let by_id: BTreeMap<u64, &Value> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["id"].as_u64().unwrap(), line))
        .collect();
    // Task 2 runs from 32 to 40 us, waits for the network to 170, runs from 171 to 198, less one for the coroutine. Two
    // events of one time are put a nanosecond apart.
    let near = |figure: &str, expected: i64| {
        let found = by_id[&2][figure].as_i64().unwrap();
        assert!((found - expected).abs() <= 2, "{figure}: {found}");
    };
    assert_eq!(by_id[&2]["name"], "app::net_reader");
    near("network_ns", 130_000);
    near("running_ns", 34_000);
    // Task 5: 40 to 42 us in the kernel, then from 50 on, losing its processor at 90, back at 105.
    assert_eq!(by_id[&5]["name"], "app::file_io");
    assert!(by_id[&5]["syscall_ns"].as_i64().unwrap() >= 57_000);
}

#[test]
fn quantiles_lie_where_the_single_tasks_do() {
    let report: Value =
        serde_json::from_str(&printed(&Command::Attribute(input("go-1.27.trace", true)))).unwrap();
    let lines: Value = serde_json::from_str(&printed(&tasks("go-1.27.trace", true, false))).unwrap();
    let mut seen = 0;
    for group in report["tasks"].as_array().unwrap() {
        let of_group =
            lines.as_array().unwrap().iter().filter(|line| {
                line["name"] == group["name"] && line["created"] == 1 && line["state"] == "ended"
            });
        let mut walls: Vec<i64> = of_group.map(|line| line["wall_ns"].as_i64().unwrap()).collect();
        walls.sort_unstable();
        assert_eq!(walls.len() as u64, group["whole"].as_u64().unwrap(), "{group}");
        let Some(longest) = walls.last() else { continue };
        for (key, exact) in [
            ("wall_p50_ns", walls[(walls.len() - 1) / 2]),
            ("wall_p99_ns", *longest),
        ] {
            let found = group[key].as_i64().unwrap();
            assert!(
                (found - exact).abs() <= exact / 100 + 1,
                "{key} is {found}, should be {exact}: {group}"
            );
        }
        seen += 1;
    }
    assert!(seen >= 8, "{seen} groups with whole tasks");
}

#[test]
fn perfetto_events_are_paired_and_on_tracks() {
    for name in TRACES {
        let document: Value = serde_json::from_str(&printed(&Command::ToPerfetto {
            file: path(name),
            output: None,
        }))
        .unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert!(
            count("X") > 10 && count("M") > 5 && count("C") > 10 && count("f") > 3,
            "{name}"
        );
        assert!(count("s") >= count("f"), "{name}");
        for event in events {
            let ends = event["dur"].as_f64().unwrap_or(0.0);
            assert!(
                event["pid"].is_u64() && event["tid"].is_u64() || event["ph"] == "C",
                "{event}"
            );
            assert!(
                ends >= 0.0 && event["ts"].as_f64().unwrap_or(0.0) >= 0.0,
                "{event}"
            );
        }
        // What runs on a processor does not overlap.
        let mut slices: Vec<(u64, f64, f64)> = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["pid"] == 1 && event["tid"].as_u64() < Some(1000))
            .map(|event| {
                (
                    event["tid"].as_u64().unwrap(),
                    event["ts"].as_f64().unwrap(),
                    event["dur"].as_f64().unwrap(),
                )
            })
            .collect();
        slices.sort_by(|a, b| a.partial_cmp(b).unwrap());
        for pair in slices.windows(2) {
            let ((track, begun, length), (next, start, _)) = (pair[0], pair[1]);
            assert!(
                track != next || begun + length <= start + 0.0005,
                "{name}: {pair:?}"
            );
        }
    }
}

/// Name, whether it is legal, the bytes.
fn variants() -> Vec<(String, bool, Vec<u8>)> {
    let base = bytes("proof-26.trace");
    let text = String::from_utf8(bytes("proof-26-variants.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let [name, verdict, front, back, middle] = fields[..] else {
                panic!("{line}")
            };
            let (front, back): (usize, usize) = (front.parse().unwrap(), back.parse().unwrap());
            let middle = if middle == "-" { "" } else { middle };
            let middle = (0..middle.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&middle[at..at + 2], 16).unwrap());
            let mut bytes = base[..front].to_vec();
            bytes.extend(middle);
            bytes.extend(&base[base.len() - back..]);
            (name.to_owned(), verdict == "accept", bytes)
        })
        .collect()
}

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let mut faults = String::new();
    let variants = variants();
    assert!(variants.len() >= 55, "{}", variants.len());
    for (name, legal, bytes) in variants {
        let rules = Rules {
            strict: true,
            self_contained: false,
        };
        match read(&bytes[..], rules, &mut Count(0)) {
            Ok(_) => assert!(legal, "{name} was accepted"),
            Err(fault) => {
                assert!(!legal, "{name} was refused: {fault}");
                faults += &format!("{name}: {fault}\n");
            }
        }
    }
    golden("faults", &faults);
}

#[test]
fn generations_that_do_not_stand_on_their_own() {
    for (name, _, bytes) in variants() {
        if name == "gen2-no-running-status" {
            let fault = read(&bytes[..], STRICT, &mut Count(0)).unwrap_err().to_string();
            assert!(
                fault.contains("does not stand on its own: no status for task 1"),
                "{fault}"
            );
            return;
        }
    }
    panic!("the variant is missing");
}

#[test]
fn every_cut_of_a_trace_is_told() {
    for name in TRACES {
        let whole = bytes(name);
        let step = whole.len() / 1500 + 1;
        for length in (0..whole.len()).step_by(step) {
            let result = read(&whole[..length], STRICT, &mut Count(0));
            match result {
                Err(Fault::Format { offset, message }) => {
                    assert!(
                        offset <= length as u64 && !message.is_empty(),
                        "{name} cut at {length}: {offset}"
                    );
                }
                Err(Fault::Io(error)) => panic!("{error}"),
                // The end of a generation is a legal end, and before 1.26 so is the end of a batch.
                Ok(extent) => assert!(
                    extent.generations >= 1 && extent.bytes == length as u64,
                    "{name} at {length}"
                ),
            }
        }
    }
}

/// A generator of its own, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256).to_le_bytes()[0],
                2 => bytes.insert(at, self.below(256).to_le_bytes()[0]),
                3 => _ = bytes.remove(at),
                4 => bytes[at] = 0xff,
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
            }
        }
    }
}

/// Everything that reads, on one input.
fn read_in_every_way(bytes: &[u8]) -> bool {
    let legal = read(bytes, STRICT, &mut Count(0)).is_ok();
    let (mut summary, mut attribute, mut tasks) =
        (Summary::default(), Attribute::default(), Tasks::default());
    if let Ok(extent) = read(bytes, Rules::default(), &mut summary) {
        summary.print(extent, true, &mut io::sink()).unwrap();
        read(bytes, Rules::default(), &mut attribute).unwrap();
        attribute.print(false, &mut io::sink()).unwrap();
        read(bytes, Rules::default(), &mut tasks).unwrap();
        let view = View {
            sort: Key::Running,
            group: true,
            name: None,
            limit: 0,
            json: true,
        };
        tasks.print(view, &mut io::sink()).unwrap();
    } else {
        assert!(!legal, "strict accepts what the lenient refuses");
    }
    let mut perfetto = Perfetto::new(io::sink());
    _ = read(bytes, Rules::default(), &mut perfetto);
    perfetto.finish().unwrap();
    legal
}

#[test]
fn no_damage_makes_it_panic_or_grow() {
    let mut refused = 0;
    for (index, name) in TRACES.into_iter().enumerate() {
        let whole = bytes(name);
        assert!(read_in_every_way(&whole), "{name}");
        let rounds = if whole.len() > 10_000 { 100 } else { 600 };
        for round in 0..rounds {
            let seed = 1 + index as u64 * 1_000_003 + round;
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut damaged = whole.clone();
            random.damage(&mut damaged);
            refused += u64::from(!read_in_every_way(&damaged));
        }
    }
    assert!(
        refused > 1000,
        "only {refused} of 2500 were refused: is anything damaged?"
    );
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.unwrap().trim().parse().unwrap();
    assert!(peak < 400_000, "{peak} kB for traces of 20 kB at most");
}

#[test]
fn sizes_that_lie_take_no_memory() {
    // A batch of 64 KiB of which nothing follows; a string and a stack that claim more than the batch.
    for tail in [
        &[1, 1, 1, 1, 0x80, 0x80, 4][..],
        &[1, 1, 1, 1, 4, 4, 5, 1, 0xff],
        &[1, 1, 1, 1, 4, 2, 3, 1, 0x7f],
    ] {
        let mut file = b"go 1.26 trace\0\0\0".to_vec();
        file.extend(tail);
        let fault = read(&file[..], STRICT, &mut Count(0)).unwrap_err().to_string();
        assert!(fault.contains("ends"), "{fault}");
    }
}

#[test]
fn the_command_line_is_sound() {
    Options::command().debug_assert();
}
