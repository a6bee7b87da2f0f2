//! Why and where a task waits.

use std::panic::Location;

/// The reason and the place, in one word: by it the trace looks up all that it says of such a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site(u64);

/// Below the reason.
const ADDRESS_BITS: u32 = 56;

impl Site {
    #[inline]
    pub(crate) fn new(reason: Reason, at: &'static Location<'static>) -> Site {
        Site(std::ptr::from_ref(at) as u64 | (reason as u64) << ADDRESS_BITS)
    }

    /// Never zero, and with the two upper bits unset.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Back from [`Site::word`]; zero is none.
    ///
    /// # Safety
    /// The word is zero or that of a site.
    #[inline]
    pub(crate) unsafe fn from_word(word: u64) -> Option<Site> {
        (word != 0).then_some(Site(word))
    }

    pub(crate) fn reason(self) -> Reason {
        Reason::from_byte((self.0 >> ADDRESS_BITS) as u8)
    }

    pub(crate) fn at(self) -> &'static Location<'static> {
        let at = (self.0 & ((1 << ADDRESS_BITS) - 1)) as *const Location<'static>;
        // SAFETY: validity: `new` was given it, and user addresses have fewer than 56 bits on the systems we build for.
        // aliasing: Locations are immutable.
        unsafe { &*at }
    }
}

/// Why a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// `task::park`.
    Park = 1,
    /// `JoinHandle::join`.
    Join = 2,
    /// `time::sleep` and intervals.
    Sleep = 3,
    /// Bytes to come.
    Read = 4,
    /// Room for bytes.
    Write = 5,
    /// `sync::Mutex`.
    Mutex = 6,
    /// `sync::RwLock`.
    RwLock = 7,
    /// `sync::Condvar`.
    Condvar = 8,
    /// `sync::Semaphore`.
    Semaphore = 9,
    /// `sync::Barrier`.
    Barrier = 10,
    /// `sync::WaitGroup`.
    WaitGroup = 11,
    /// `sync::Once` and what is built on it.
    Once = 12,
    /// `sync::Notify`.
    Notify = 13,
    /// Sending on a channel.
    Send = 14,
    /// Receiving from a channel.
    Recv = 15,
    /// `select!`.
    Select = 16,
    /// The end of a `scope`.
    Scope = 17,
    /// A connection to come.
    Accept = 18,
    /// A connection to stand.
    Connect = 19,
    /// For the next thing that a trace says of itself.
    Trace = 20,
}

impl Reason {
    fn from_byte(byte: u8) -> Reason {
        match byte {
            2 => Reason::Join,
            3 => Reason::Sleep,
            4 => Reason::Read,
            5 => Reason::Write,
            6 => Reason::Mutex,
            7 => Reason::RwLock,
            8 => Reason::Condvar,
            9 => Reason::Semaphore,
            10 => Reason::Barrier,
            11 => Reason::WaitGroup,
            12 => Reason::Once,
            13 => Reason::Notify,
            14 => Reason::Send,
            15 => Reason::Recv,
            16 => Reason::Select,
            17 => Reason::Scope,
            18 => Reason::Accept,
            19 => Reason::Connect,
            20 => Reason::Trace,
            _ => Reason::Park,
        }
    }

    /// Go's name for such a wait, by which its tools sort.
    pub(crate) fn in_go(self) -> &'static str {
        match self {
            Reason::Read | Reason::Write | Reason::Accept | Reason::Connect => "network",
            Reason::Sleep => "sleep",
            Reason::Send => "chan send",
            Reason::Recv => "chan receive",
            Reason::Select => "select",
            Reason::Condvar => "sync.(*Cond).Wait",
            Reason::Park => "unspecified",
            Reason::Trace => "system goroutine wait",
            _ => "sync",
        }
    }

    /// For a person to read.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Reason::Park => "park",
            Reason::Join => "join",
            Reason::Sleep => "sleep",
            Reason::Read => "network read",
            Reason::Write => "network write",
            Reason::Mutex => "mutex",
            Reason::RwLock => "rwlock",
            Reason::Condvar => "condition variable",
            Reason::Semaphore => "semaphore",
            Reason::Barrier => "barrier",
            Reason::WaitGroup => "wait group",
            Reason::Once => "once",
            Reason::Notify => "notify",
            Reason::Send => "channel send",
            Reason::Recv => "channel receive",
            Reason::Select => "select",
            Reason::Scope => "scope",
            Reason::Accept => "network accept",
            Reason::Connect => "network connect",
            Reason::Trace => "trace",
        }
    }
}
