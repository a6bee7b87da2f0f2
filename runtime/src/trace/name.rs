//! Names of entry functions for a person to read: `server::handle` for the closure in it.

use std::borrow::Cow;

/// What std calls a closure.
const CLOSURE: &str = "::{{closure}}";

/// The type's name without what says only that it is a closure. A closure of bast's own that carries the user's (scopes,
/// groups, pools) is named by the one that it carries.
pub(super) fn readable(type_name: &str) -> Cow<'_, str> {
    let mut name = type_name;
    while let Some(carried) = carried_by(name) {
        name = carried;
    }
    while let Some(shorter) = name.strip_suffix(CLOSURE) {
        name = shorter;
    }
    if name.contains(CLOSURE) {
        return Cow::Owned(name.replace(CLOSURE, ""));
    }
    // Go's tools take such names for the runtime's own tasks.
    if name.is_empty() || name.starts_with("runtime.") {
        return Cow::Owned(format!("user {name}"));
    }
    Cow::Borrowed(name)
}

/// The first type argument of a name that is ours.
fn carried_by(name: &str) -> Option<&str> {
    if !name.starts_with("bast::") {
        return None;
    }
    let from = name.find('<')? + 1;
    let mut depth = 0;
    let end = name[from..].char_indices().position(|(_, character)| {
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' if depth > 0 => depth -= 1,
            '>' => return true,
            ',' => return depth == 0,
            _ => {}
        }
        false
    })?;
    let end = name[from..].char_indices().nth(end).map(|(at, _)| from + at)?;
    Some(name[from..end].trim()).filter(|carried| carried.contains("::"))
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn closures_are_named_by_their_function() {
        assert_eq!(readable("server::handle"), "server::handle");
        assert_eq!(readable("server::handle::{{closure}}"), "server::handle");
        assert_eq!(
            readable("server::handle::{{closure}}::{{closure}}"),
            "server::handle"
        );
    }

    #[test]
    fn ours_are_named_by_what_they_carry() {
        assert_eq!(
            readable("bast::task::scope::Scope::start<app::sum::{{closure}}, u64>::{{closure}}"),
            "app::sum"
        );
        assert_eq!(readable("bast::task::pool::work"), "bast::task::pool::work");
    }
}
