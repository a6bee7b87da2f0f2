//! Names of functions for a person to read, in a form that Go's tools leave whole.
//!
//! | of | is |
//! |---|---|
//! | a function | `server::handle`, `server::handle[u32]` |
//! | a closure in it | `server::{handle:12}`: the line that spawned it, or all closures of one function would be one |
//! | another one spawned by that line | `server::{handle:12 #2}` |
//! | a pointer to a function, a boxed closure | `{fn at main:30}`, `{box at main:30}`: nothing else is known of them |
//!
//! `go tool pprof` takes names with `::` for those of C++, and cuts out of them what stands in angle and in round brackets,
//! in its graphs also what follows `Type::method`; there it begins a new line at each dot. So all brackets are square,
//! places have no dots, and a closure's brace stands where a method's first letter would.

use std::borrow::Cow;
use std::panic::Location;

/// What std calls a closure.
const CLOSURE: &str = "::{{closure}}";
/// How the types of pointers to functions begin.
const POINTERS: &[&str] = &["fn(", "unsafe fn(", "extern ", "unsafe extern "];

/// The name of a task's entry function.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Of a function that is known.
    Function(String),
    /// Of one that is told apart from others by where it was spawned: the modules, and the function that it stands in, with
    /// that line. It is short, as Go's viewer shows some 24 letters of a task's name and label.
    Spawned(String, String),
}

impl Entry {
    /// Of the type of what was spawned at a place.
    pub(super) fn of(type_name: &str, spawned: &Location<'_>) -> Entry {
        let name = squared(type_name);
        let name = carried(&name);
        let boxed = name.starts_with("alloc::boxed::Box[");
        if boxed || POINTERS.iter().any(|start| name.starts_with(&*squared(start))) {
            let what = if boxed { "box" } else { "fn" };
            return Entry::Spawned(String::new(), format!("{what} at {}", place(spawned)));
        }
        let function = without_closures(name);
        if !name.contains(CLOSURE) {
            return Entry::Function(function.into_owned());
        }
        let (modules, function) = function.split_at(last_segment(&function));
        Entry::Spawned(modules.to_owned(), format!("{function}:{}", spawned.line()))
    }

    /// The `number`th of its name.
    pub(super) fn name(&self, number: usize) -> Cow<'_, str> {
        match self {
            Entry::Function(name) => name.into(),
            Entry::Spawned(modules, function) if number == 1 => format!("{modules}{{{function}}}").into(),
            Entry::Spawned(modules, function) => format!("{modules}{{{function} #{number}}}").into(),
        }
    }

    /// What the frame of the function itself is named in a real stack.
    pub(super) fn frame(&self) -> Cow<'_, str> {
        match self {
            Entry::Function(name) => name.into(),
            Entry::Spawned(modules, function) => {
                let function = function
                    .rsplit_once(':')
                    .map_or(&**function, |(function, _)| function);
                format!("{modules}{function}").into()
            }
        }
    }
}

/// The name of a frame of a real stack: a closure's is that of its function, as the line is told beside it.
#[cfg(any(feature = "symbols", test))]
pub(super) fn frame(symbol: &str) -> String {
    let mut name = squared(symbol);
    while let Some(from) = name.find("::{closure#") // as the newer kind of symbols calls it
        && let Some(length) = name[from..].find('}')
    {
        name.replace_range(from..=from + length, "");
    }
    without_closures(carried(&name)).into_owned()
}

/// A line of source, in a few letters: its file without the ending, and without the directories unless many are named so.
pub(super) fn place(at: &Location<'_>) -> String {
    short(at.file(), at.line())
}

fn short(file: &str, line: u32) -> String {
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next().unwrap_or_default();
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let directory = match name {
        "mod" | "lib" | "main" => parts.find(|part| *part != "src"),
        _ => None,
    };
    let (directory, slash) = directory.map_or(("", ""), |directory| (directory, "/"));
    format!("{directory}{slash}{name}:{line}").replace('.', "_")
}

/// With square brackets for all others, but for the arrow's.
fn squared(name: &str) -> String {
    let mut before = ' ';
    let square = |character| {
        let arrow = before == '-';
        before = character;
        match character {
            '<' | '(' => '[',
            '>' if !arrow => ']',
            ')' => ']',
            other => other,
        }
    };
    name.chars().map(square).collect()
}

fn without_closures(name: &str) -> Cow<'_, str> {
    let name = match name.contains(CLOSURE) {
        true => Cow::Owned(name.replace(CLOSURE, "")),
        false => Cow::Borrowed(name),
    };
    // Go's tools take such names for the runtime's own tasks.
    if name.is_empty() || name.starts_with("runtime.") {
        return Cow::Owned(format!("user {name}"));
    }
    name
}

/// Where the last part of a path begins.
fn last_segment(path: &str) -> usize {
    let (mut depth, mut from) = (0, 0);
    for (at, character) in path.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ':' if depth == 0 => from = at + 1,
            _ => {}
        }
    }
    from
}

/// A closure of bast's own that carries the user's (scopes, groups, pools) is named by the one that it carries.
fn carried(name: &str) -> &str {
    let mut name = name;
    while let Some(carried) = carried_by(name) {
        name = carried;
    }
    name
}

/// The first type argument of a name that is ours.
fn carried_by(name: &str) -> Option<&str> {
    if !name.starts_with("bast::") {
        return None;
    }
    let from = name.find('[')? + 1;
    let mut depth = 0;
    let length = name[from..].find(|character| {
        match character {
            '[' => depth += 1,
            ']' if depth > 0 => depth -= 1,
            ']' => return true,
            ',' => return depth == 0,
            _ => {}
        }
        false
    })?;
    let carried = name[from..from + length].trim();
    let pointer = POINTERS.iter().any(|start| carried.starts_with(&*squared(start)));
    (pointer || carried.contains("::")).then_some(carried)
}

#[cfg(test)]
mod tests {
    use super::{Entry, frame, short};
    use std::panic::Location;

    /// The name, with `HERE` for the place.
    #[track_caller]
    fn named(type_name: &str) -> String {
        let here = Location::caller();
        let name = Entry::of(type_name, here).name(1).into_owned();
        let name = name.replace(&super::place(here), "HERE");
        name.replace(&format!(":{}", here.line()), ":LINE")
    }

    #[test]
    fn functions_are_named_by_their_path() {
        assert_eq!(named("server::handle"), "server::handle");
        assert_eq!(named("server::handle<u32>"), "server::handle[u32]");
        assert_eq!(
            named("<app::X as app::Y<(u8, fn(u8) -> ())>>::run"),
            "[app::X as app::Y[[u8, fn[u8] -> []]]]::run"
        );
        assert_eq!(named("runtime.x"), "user runtime.x");
    }

    #[test]
    fn closures_are_named_by_their_function_and_who_spawned_them() {
        assert_eq!(named("server::handle::{{closure}}"), "server::{handle:LINE}");
        assert_eq!(
            named("server::handle::{{closure}}::{{closure}}"),
            "server::{handle:LINE}"
        );
        assert_eq!(
            named("<app::X as app::Y>::run<app::Z>::{{closure}}"),
            "[app::X as app::Y]::{run[app::Z]:LINE}"
        );
        assert_eq!(
            named("app::each<app::main::{{closure}}>"),
            "app::{each[app::main]:LINE}"
        );
        let here = Location::caller();
        let entry = Entry::of("server::handle::{{closure}}", here);
        assert_eq!(entry.name(2), format!("server::{{handle:{} #2}}", here.line()));
        assert_eq!(entry.frame(), "server::handle");
        assert_eq!(entry.frame(), frame("server::handle::{{closure}}"));
    }

    #[test]
    fn what_has_no_name_of_its_own_is_named_by_who_spawned_it() {
        for pointer in [
            "fn()",
            "fn(u8) -> u64",
            "unsafe fn()",
            "extern \"C\" fn()",
            "bast::task::scope::Scope::start<fn() -> u8, u8>",
        ] {
            assert_eq!(named(pointer), "{fn at HERE}", "{pointer}");
        }
        assert_eq!(
            named("alloc::boxed::Box<dyn core::ops::function::FnOnce() + core::marker::Send>"),
            "{box at HERE}"
        );
    }

    #[test]
    fn ours_are_named_by_what_they_carry() {
        assert_eq!(
            named("bast::task::scope::Scope::start<app::sum::{{closure}}, u64>::{{closure}}"),
            "app::{sum:LINE}"
        );
        assert_eq!(
            named("bast::task::scope::Scope::start<app::sum, u64>"),
            "app::sum"
        );
        assert_eq!(named("bast::task::pool::work"), "bast::task::pool::work");
    }

    #[test]
    fn frames_of_closures_have_the_names_of_their_functions() {
        assert_eq!(frame("app::serve"), "app::serve");
        assert_eq!(frame("app::serve::{{closure}}"), "app::serve");
        assert_eq!(frame("app::serve::{closure#0}::{closure#12}"), "app::serve");
        assert_eq!(frame("app::{closure#0"), "app::{closure#0");
        assert_eq!(frame("<app::X as app::Y>::f"), "[app::X as app::Y]::f");
    }

    #[test]
    fn places_are_short_and_without_dots() {
        assert_eq!(short("src/order.rs", 7), "order:7");
        assert_eq!(short("C:\\app\\src\\order.rs", 7), "order:7");
        assert_eq!(short("/rustc/0/library/std/src/io/mod.rs", 7), "io/mod:7");
        assert_eq!(short("wire-0.2/src/lib.rs", 7), "wire-0_2/lib:7");
        assert_eq!(short("src/main.rs", 7), "main:7");
        assert_eq!(short("out/made.up.rs", 7), "made_up:7");
    }

    /// What `go tool pprof` would cut away.
    #[test]
    fn nothing_is_lost_in_graphs() {
        for name in [
            "app::Server::handle::{{closure}}",
            "app::Server<app::T>::handle::{{closure}}",
            "<app::Server as app::Handler>::handle",
            "app::sum<(u8, u16)>",
        ] {
            let name = named(name);
            assert!(!name.contains(['<', '(', ')', '.']), "{name}");
            let types = name.split("::").zip(name.split("::").skip(1));
            let mut methods = types.filter(|(of, method)| {
                of.starts_with(|first: char| first.is_ascii_uppercase())
                    && of.chars().all(|one| one.is_ascii_alphanumeric())
                    && method.starts_with(|first: char| first.is_ascii_alphabetic())
            });
            assert!(methods.next().is_none(), "{name}");
        }
    }
}
