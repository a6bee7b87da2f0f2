//! The table, as Markdown, so that it can be put into a document as it is.

use crate::report::{Line, Report, Verdict};
use crate::rows::Row;
use crate::system::System;

/// For `--list`.
pub(crate) fn print_row_name(row: &Row) {
    println!("{:<26} {}", row.name, row.about);
    if !row.note.is_empty() {
        println!("{:<26}   ({})", "", row.note);
    }
}

/// Progress: the lines of the row that was just measured.
pub(crate) fn print_new_rows(report: &Report, row: &Row) {
    let new = report.rows.len() - row.metrics.len();
    for line in &report.rows[new..] {
        eprintln!("{}", markdown(line));
    }
}

/// All of it.
pub(crate) fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}: {}, {} CPUs, {} processors a runtime, {} GiB, Linux {}, load {} at the start.",
        machine.date,
        machine.cpu,
        machine.cpus,
        machine.processors,
        machine.memory_gib,
        machine.kernel,
        machine.load_average
    );
    println!(
        "{}; {}; tokio {}, may {}, corosensei {}, crossbeam-channel {}, flume {}.\n",
        machine.rustc,
        machine.go.as_deref().unwrap_or("no go"),
        machine.tokio,
        machine.may,
        machine.corosensei,
        machine.crossbeam,
        machine.flume
    );
    println!(
        "| row | unit | bast | Go | tokio | may | crossbeam | flume | control | bast : best rival | bast : control | verdict |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|");
    report.rows.iter().for_each(|line| println!("{}", markdown(line)));
    println!("\n± is half the range over the repeats. {}", summary(report));
    for (row, notes) in &report.notes {
        println!("* {row}: {}", notes.join("; "));
    }
}

fn markdown(line: &Line) -> String {
    let cells: Vec<String> = System::ALL.iter().map(|&system| cell(line, system)).collect();
    let [ratio, to_control] = [line.ratio_to_best, line.ratio_to_control].map(|ratio| match ratio {
        Some(ratio) if ratio.is_finite() => format!("{ratio:.2}"),
        _ => String::new(),
    });
    let verdict = match (line.verdict, line.best_rival) {
        (Verdict::Ahead, Some(rival)) => format!("ahead of {rival}"),
        (Verdict::Level, Some(rival)) => format!("level with {rival}"),
        (Verdict::Behind, Some(rival)) => format!("**behind {rival}**"),
        _ => String::new(),
    };
    let more = if line.lower_is_better {
        ""
    } else {
        " (more is better)"
    };
    format!(
        "| {} | {}{more} | {} | {ratio} | {to_control} | {verdict} |",
        line.name,
        line.unit,
        cells.join(" | ")
    )
}

fn cell(line: &Line, system: System) -> String {
    let Some(value) = line.of(system) else {
        return String::new();
    };
    let digits = match value.abs() {
        small if small < 10.0 => 2,
        medium if medium < 100.0 => 1,
        _ => 0,
    };
    match line.spread_percent.get(system.name()) {
        Some(&spread) if spread >= 0.5 => format!("{value:.digits$} ±{spread:.0}%"),
        _ => format!("{value:.digits$}"),
    }
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.rows.iter().filter(|line| line.verdict == verdict).count();
    format!(
        "Ahead in {}, level (within 3%) in {}, behind in {}.",
        count(Verdict::Ahead),
        count(Verdict::Level),
        count(Verdict::Behind)
    )
}
