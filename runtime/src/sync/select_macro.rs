//! The `select!` macro. It reads the cases one by one into a list, opens a `match` for each, so that what a case borrows
//! lives until its code has run, and then asks `sync::select`.

/// Waits on several channels, lets one case win, and runs its code.
///
/// ```
/// use bast::sync::channel;
/// use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let (sender, receiver) = channel::bounded(1);
/// let (_other, quiet) = channel::rendezvous::<u32>();
/// let said = bast::select! {
///     recv(quiet) -> value => format!("{value:?}"),
///     send(sender, "a value") -> sent => {
///         sent.unwrap();
///         "sent".to_owned()
///     }
///     default(Duration::from_secs(1)) => "nothing happened".to_owned(),
/// };
/// assert_eq!(said, "sent");
/// assert_eq!(receiver.recv(), Ok("a value"));
/// # }) }
/// ```
///
/// # Cases
/// * `recv(receiver) -> pattern => code`: the pattern is bound to a `Result<T, RecvError>`.
/// * `send(sender, value) -> pattern => code`: to a `Result<(), SendError<T>>`.
/// * `default => code` wins if no other case is ready at once; `default(duration) => code` if none is within the
///   [`Duration`](std::time::Duration). At most one of them.
///
/// Ends are given by value or reference, and can be temporaries (`recv(channel::after(d))`). All expressions before the
/// arrows are evaluated once, in the order in which they stand, before anything is chosen; the pattern and the code of the
/// winner only. `break`, `continue`, `return` and `?` in the code mean what they mean around the macro. The value of
/// the macro is that of the code. The duration of `default` is evaluated after all others.
///
/// # Rules
/// * A case whose channel is closed (and, to receive, empty) is ready, with an error. To switch it off, use
///   [`never`](crate::sync::channel::never).
/// * Of several cases that are ready each is chosen equally often.
/// * Exactly one case happens. Those that lose have received nothing; what they would have sent is dropped.
/// * `default` is taken only if there was a moment at which no case was ready.
/// * One channel can be in several cases, also with both its ends; a select never receives from itself without a
///   buffer.
/// * Without cases it waits for ever. So it does within [`time::timeout`](crate::time::timeout); otherwise, when the time of
///   that is over, `default` is taken, or, if there is none, one of the cases fails as its plain call would.
#[macro_export]
macro_rules! select {
    () => { $crate::sync::select::expansion::wait_forever() };
    ($($cases:tt)+) => { $crate::__bast_select!(@read () () $($cases)+) };
}

/// See `select!`. No part of the interface.
#[doc(hidden)]
#[macro_export]
macro_rules! __bast_select {
    // ---- @read (cases) (default) rest: one case at a time. After code in braces the comma may be left out. ----
    (@read $cases:tt $default:tt) => { $crate::__bast_select!(@open () $default $cases) };
    (@read ($($cases:tt)*) $default:tt recv($end:expr $(,)?) -> $said:pat => $code:expr, $($rest:tt)*) => {
        $crate::__bast_select!(@read ($($cases)* (recv ($end) $said => $code)) $default $($rest)*)
    };
    (@read ($($cases:tt)*) $default:tt recv($end:expr $(,)?) -> $said:pat => $code:block $($rest:tt)*) => {
        $crate::__bast_select!(@read ($($cases)* (recv ($end) $said => $code)) $default $($rest)*)
    };
    (@read ($($cases:tt)*) $default:tt recv($end:expr $(,)?) -> $said:pat => $code:expr) => {
        $crate::__bast_select!(@read ($($cases)* (recv ($end) $said => $code)) $default)
    };
    (@read ($($cases:tt)*) $default:tt send($end:expr, $value:expr $(,)?) -> $said:pat => $code:expr, $($rest:tt)*) => {
        $crate::__bast_select!(@read ($($cases)* (send ($end, $value) $said => $code)) $default $($rest)*)
    };
    (@read ($($cases:tt)*) $default:tt send($end:expr, $value:expr $(,)?) -> $said:pat => $code:block $($rest:tt)*) => {
        $crate::__bast_select!(@read ($($cases)* (send ($end, $value) $said => $code)) $default $($rest)*)
    };
    (@read ($($cases:tt)*) $default:tt send($end:expr, $value:expr $(,)?) -> $said:pat => $code:expr) => {
        $crate::__bast_select!(@read ($($cases)* (send ($end, $value) $said => $code)) $default)
    };
    (@read $cases:tt () default => $code:expr, $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((none()) => $code) $($rest)*)
    };
    (@read $cases:tt () default => $code:block $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((none()) => $code) $($rest)*)
    };
    (@read $cases:tt () default => $code:expr) => {
        $crate::__bast_select!(@read $cases ((none()) => $code))
    };
    (@read $cases:tt () default() => $code:expr, $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((none()) => $code) $($rest)*)
    };
    (@read $cases:tt () default() => $code:block $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((none()) => $code) $($rest)*)
    };
    (@read $cases:tt () default() => $code:expr) => {
        $crate::__bast_select!(@read $cases ((none()) => $code))
    };
    (@read $cases:tt () default($timeout:expr $(,)?) => $code:expr, $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((within($timeout)) => $code) $($rest)*)
    };
    (@read $cases:tt () default($timeout:expr $(,)?) => $code:block $($rest:tt)*) => {
        $crate::__bast_select!(@read $cases ((within($timeout)) => $code) $($rest)*)
    };
    (@read $cases:tt () default($timeout:expr $(,)?) => $code:expr) => {
        $crate::__bast_select!(@read $cases ((within($timeout)) => $code))
    };
    (@read $cases:tt ($($one:tt)+) default $($rest:tt)*) => {
        compile_error!("select!: there is more than one `default`")
    };
    (@read $cases:tt $default:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "select!: expected `recv(receiver) -> pattern => code`, `send(sender, value) -> pattern => code`, ",
            "`default => code` or `default(duration) => code`, separated by commas, at: ",
            stringify!($($rest)*)
        ))
    };

    // ---- @open (opened) (default) (cases): every case gets a name, a different one each, for all are called `case` in
    // an expansion of their own. ----
    (@open $opened:tt () ()) => {
        $crate::__bast_select!(@ask $opened (forever()) unreachable!("a select without `default` ends with a winner"))
    };
    (@open $opened:tt (($($wait:tt)*) => $code:expr) ()) => {
        $crate::__bast_select!(@ask $opened ($($wait)*) $code)
    };
    (@open ($($opened:tt)*) $default:tt ((recv ($end:expr) $said:pat => $code:expr) $($cases:tt)*)) => {
        match &$end {
            end => match $crate::sync::select::expansion::RecvCase::new(end) { case => $crate::__bast_select!(@open ($($opened)* (case $said => $code)) $default ($($cases)*)), },
        }
    };
    (@open ($($opened:tt)*) $default:tt ((send ($end:expr, $value:expr) $said:pat => $code:expr) $($cases:tt)*)) => {
        match &$end {
            end => match $crate::sync::select::expansion::SendCase::new(end, $value) { case => $crate::__bast_select!(@open ($($opened)* (case $said => $code)) $default ($($cases)*)), },
        }
    };

    // ---- @ask (opened) (wait) otherwise ----
    (@ask ($(($case:ident $said:pat => $code:expr))*) ($($wait:tt)*) $otherwise:expr) => {{
        $crate::sync::select::expansion::choose(
            [$($case.erased()),*],
            $crate::sync::select::expansion::Wait::$($wait)*,
        );
        $crate::__bast_select!(@run ($(($case $said => $code))*) $otherwise)
    }};

    // ---- @run (opened) otherwise: the code of the winner ----
    (@run () $otherwise:expr) => { $otherwise };
    (@run (($case:ident $said:pat => $code:expr) $($opened:tt)*) $otherwise:expr) => {
        if let ::core::option::Option::Some(said) = $case.result() {
            let $said = said;
            $code
        } else {
            $crate::__bast_select!(@run ($($opened)*) $otherwise)
        }
    };
}
