//! The events of the format, with their numbers, arguments and the first header version that has them.

macro_rules! kinds {
    ($($name:ident $number:literal $args:literal $since:literal;)*) => {
        /// An event with a time. The number is the one on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Kind {
            $($name = $number,)*
        }

        impl Kind {
            #[cfg(test)]
            pub(crate) const ALL: &[Kind] = &[$(Kind::$name,)*];

            pub(crate) const fn new(number: u8) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$name),)*
                    _ => None,
                }
            }

            /// The name of Go's documents, which `go tool trace -d=wire` prints too.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Kind::$name => stringify!($name),)*
                }
            }

            /// One letter an argument, without the time: `n` a number, `s` a string, `k` a stack.
            pub(crate) const fn arguments(self) -> &'static [u8] {
                match self {
                    $(Kind::$name => $args,)*
                }
            }

            /// The minor number of the first header that may hold it.
            pub(crate) const fn since(self) -> u8 {
                match self {
                    $(Kind::$name => $since,)*
                }
            }
        }
    };
}

kinds! {
    ProcsChange 9 b"nk" 22;
    ProcStart 10 b"nn" 22;
    ProcStop 11 b"" 22;
    ProcSteal 12 b"nnn" 22;
    ProcStatus 13 b"nn" 22;
    GoCreate 14 b"nkk" 22;
    GoCreateSyscall 15 b"n" 22;
    GoStart 16 b"nn" 22;
    GoDestroy 17 b"" 22;
    GoDestroySyscall 18 b"" 22;
    GoStop 19 b"sk" 22;
    GoBlock 20 b"sk" 22;
    GoUnblock 21 b"nnk" 22;
    GoSyscallBegin 22 b"nk" 22;
    GoSyscallEnd 23 b"" 22;
    GoSyscallEndBlocked 24 b"" 22;
    GoStatus 25 b"nnn" 22;
    STWBegin 26 b"sk" 22;
    STWEnd 27 b"" 22;
    GCActive 28 b"n" 22;
    GCBegin 29 b"nk" 22;
    GCEnd 30 b"n" 22;
    GCSweepActive 31 b"n" 22;
    GCSweepBegin 32 b"k" 22;
    GCSweepEnd 33 b"nn" 22;
    GCMarkAssistActive 34 b"n" 22;
    GCMarkAssistBegin 35 b"k" 22;
    GCMarkAssistEnd 36 b"" 22;
    HeapAlloc 37 b"n" 22;
    HeapGoal 38 b"n" 22;
    GoLabel 39 b"s" 22;
    UserTaskBegin 40 b"nnsk" 22;
    UserTaskEnd 41 b"nk" 22;
    UserRegionBegin 42 b"nsk" 22;
    UserRegionEnd 43 b"nsk" 22;
    UserLog 44 b"nssk" 22;
    GoSwitch 45 b"nn" 23;
    GoSwitchDestroy 46 b"nn" 23;
    GoCreateBlocked 47 b"nkk" 23;
    GoStatusStack 48 b"nnnk" 23;
    Span 128 b"nnn" 23;
    SpanAlloc 129 b"nnn" 23;
    SpanFree 130 b"n" 23;
    HeapObject 131 b"nn" 23;
    HeapObjectAlloc 132 b"nn" 23;
    HeapObjectFree 133 b"n" 23;
    GoroutineStack 134 b"nn" 23;
    GoroutineStackAlloc 135 b"nn" 23;
    GoroutineStackFree 136 b"n" 23;
}

/// No event has more arguments, its time left out.
pub(crate) const ARGUMENTS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_arguments_fit() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::new(kind as u8), Some(kind));
            assert!(kind.arguments().len() <= ARGUMENTS_MAX, "{}", kind.name());
        }
        assert_eq!(Kind::ALL.len(), 49);
        assert_eq!(Kind::new(0), None);
        assert_eq!(Kind::new(49), None);
        assert_eq!(Kind::new(60), None);
    }
}
