//! A select whose cases are added one by one.

use super::channel::{Receiver, RecvError, SendError, Sender, until, within};
use super::channel_core::Limit;
use super::select::{Orders, select};
use super::select_case::{Case, RecvCase, SendCase};
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

/// Waits on any number of channels; for a fixed number there is [`select!`](crate::select).
///
/// A case of [`Select::recv`] stays and can win again and again. A case of [`Select::send`] has its value from the
/// beginning, is gone when it has won, and gives the value back by [`Select::remove_send`] if it has not.
///
/// ```
/// use bast::sync::{channel, select::Select};
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let channels: Vec<_> = (0..10).map(|_| channel::bounded(1)).collect();
/// channels[7].0.send("here").unwrap();
/// let mut select = Select::new();
/// for (_, receiver) in &channels {
///     select.recv(receiver);
/// }
/// let won = select.select();
/// assert_eq!(won.index(), 7);
/// assert_eq!(won.recv(&channels[7].1), Ok("here"));
/// # }) }
/// ```
#[derive(Default)]
pub struct Select<'a> {
    /// By number; None: removed.
    cases: Vec<Option<Entry<'a>>>,
    /// The case that has won and was not asked yet.
    unasked: Option<usize>,
}

struct Entry<'a> {
    case: Box<dyn Case + 'a>,
    sends: bool,
}

/// A case that has won: ask it what came, or whether the value was sent.
#[must_use = "the result of the winning case is in it"]
pub struct SelectedOperation<'s, 'a> {
    select: &'s mut Select<'a>,
    index: usize,
}

/// No case of a [`Select`] was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrySelectError;

/// The time of a [`Select`] was over before a case was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectTimeoutError;

impl<'a> Select<'a> {
    /// Without cases.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Adds a case that receives; gives its number.
    pub fn recv<T: 'a>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Entry {
            case: Box::new(RecvCase::new(receiver)),
            sends: false,
        })
    }

    /// Adds a case that sends `value`; gives its number.
    pub fn send<T: 'a>(&mut self, sender: &'a Sender<T>, value: T) -> usize {
        self.add(Entry {
            case: Box::new(SendCase::new(sender, value)),
            sends: true,
        })
    }

    fn add(&mut self, entry: Entry<'a>) -> usize {
        self.cases.push(Some(entry));
        self.cases.len() - 1
    }

    /// Removes a case. The others keep their numbers.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn remove(&mut self, index: usize) {
        self.discard();
        let removed = self.cases.get_mut(index).and_then(Option::take);
        assert!(removed.is_some(), "bast: no case {index} in this select");
    }

    /// Removes a case that sends on `sender`, and gives the value back.
    ///
    /// # Panics
    /// If there is no such case of this very `sender`.
    pub fn remove_send<T: 'a>(&mut self, index: usize, sender: &'a Sender<T>) -> T {
        self.discard();
        let entry = self.cases.get_mut(index).and_then(Option::take);
        let entry = entry.unwrap_or_else(|| panic!("bast: no case {index} in this select"));
        let value = entry.as_send(sender).value();
        value.expect("bast: a case that sends and has not won has its value")
    }

    /// Waits until a case wins. Of several that are ready any one.
    ///
    /// Within [`time::timeout`](crate::time::timeout) a case wins with its error when the time is over.
    ///
    /// # Panics
    /// If there are no cases.
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'_, 'a> {
        assert!(
            self.cases.iter().any(Option::is_some),
            "bast: a select without cases would wait for ever"
        );
        let index = self.run(Limit::Forever, Location::caller());
        let index = index.expect("a select without a limit ends with a winner");
        SelectedOperation { select: self, index }
    }

    /// Lets a case win if one is ready.
    ///
    /// # Errors
    /// [`TrySelectError`] if none was.
    #[track_caller]
    pub fn try_select(&mut self) -> Result<SelectedOperation<'_, 'a>, TrySelectError> {
        let index = self.run(Limit::Now, Location::caller()).ok_or(TrySelectError)?;
        Ok(SelectedOperation { select: self, index })
    }

    /// As [`Select::select`], for at most `timeout`.
    ///
    /// # Errors
    /// [`SelectTimeoutError`] if the time was over first.
    #[track_caller]
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'_, 'a>, SelectTimeoutError> {
        let index = self.run(within(timeout), Location::caller());
        let index = index.ok_or(SelectTimeoutError)?;
        Ok(SelectedOperation { select: self, index })
    }

    /// As [`Select::select`], until `deadline` at most.
    ///
    /// # Errors
    /// [`SelectTimeoutError`] if the time was over first.
    #[track_caller]
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'_, 'a>, SelectTimeoutError> {
        let index = self.run(until(deadline), Location::caller());
        let index = index.ok_or(SelectTimeoutError)?;
        Ok(SelectedOperation { select: self, index })
    }

    /// The result of a winner that nobody asked for is dropped: a case goes into a select with its hand as it was made.
    fn discard(&mut self) {
        let Some(index) = self.unasked.take() else { return };
        let slot = &mut self.cases[index];
        match slot {
            Some(entry) if !entry.sends => entry.case.reopen(),
            _ => *slot = None,
        }
    }

    fn run(&mut self, limit: Limit, at: &'static Location<'static>) -> Option<usize> {
        self.discard();
        let (numbers, cases): (Vec<usize>, Vec<&dyn Case>) = self
            .cases
            .iter()
            .enumerate()
            .filter_map(|(number, entry)| Some((number, &*entry.as_ref()?.case)))
            .unzip();
        let (mut tried, mut locked) = (vec![0; cases.len()], vec![(0, 0); cases.len()]);
        let orders = Orders::new(&cases, &mut tried, &mut locked);
        self.unasked = select(&cases, orders, limit, at).map(|won| numbers[won]);
        self.unasked
    }
}

impl<'a> Entry<'a> {
    fn as_recv<T: 'a>(&self, end: &'a Receiver<T>) -> &RecvCase<'a, T> {
        assert!(
            !self.sends && self.case.end() == std::ptr::from_ref(end).cast(),
            "bast: this case is not about that receiver"
        );
        let case: *const (dyn Case + 'a) = &*self.case;
        // SAFETY: validity: the case is one that receives, on the very receiver that is borrowed, for as long as the
        // case is, and so of the same type. aliasing: shared borrow.
        unsafe { &*case.cast::<RecvCase<'a, T>>() }
    }

    fn as_send<T: 'a>(&self, end: &'a Sender<T>) -> &SendCase<'a, T> {
        assert!(
            self.sends && self.case.end() == std::ptr::from_ref(end).cast(),
            "bast: this case is not about that sender"
        );
        let case: *const (dyn Case + 'a) = &*self.case;
        // SAFETY: as in `as_recv`.
        unsafe { &*case.cast::<SendCase<'a, T>>() }
    }
}

impl<'a> SelectedOperation<'_, 'a> {
    /// The number of the case that has won.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What came.
    ///
    /// # Errors
    /// [`RecvError`] if the channel is closed and empty.
    ///
    /// # Panics
    /// If the case that has won is not about this very `receiver`.
    pub fn recv<T: 'a>(self, receiver: &'a Receiver<T>) -> Result<T, RecvError> {
        let entry = self.select.cases[self.index]
            .as_ref()
            .expect("the winner is there");
        let result = entry.as_recv(receiver).result();
        result.expect("the winner has a result")
    }

    /// Whether the value was sent. The case is removed.
    ///
    /// # Errors
    /// [`SendError`], with the value, if the channel is closed.
    ///
    /// # Panics
    /// If the case that has won is not about this very `sender`.
    pub fn send<T: 'a>(self, sender: &'a Sender<T>) -> Result<(), SendError<T>> {
        let entry = self.select.cases[self.index].take().expect("the winner is there");
        self.select.unasked = None;
        let result = entry.as_send(sender).result();
        result.expect("the winner has a result")
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Select")
            .field("cases", &self.cases.iter().flatten().count())
            .finish()
    }
}

impl fmt::Debug for SelectedOperation<'_, '_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SelectedOperation")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TrySelectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no case was ready")
    }
}

impl fmt::Display for SelectTimeoutError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no case was ready until the time was over")
    }
}

impl Error for TrySelectError {}
impl Error for SelectTimeoutError {}
