//! Go's `test/chan/powser1.go` and `powser2.go`, by their behaviour, written anew: power series as processes that give
//! one coefficient at each demand. Trees of hundreds of tasks that ask each other, and a select wherever one series has
//! two readers. The coefficients are known, so a value that is lost, doubled or late shows.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{Receiver, Sender, never, rendezvous};
use chan_util::{on_each, wait_for};
use std::fmt;
use std::ops::{Add, Div, Mul, Neg};
use std::sync::Arc;

/// A fraction in lowest terms, its denominator positive.
#[derive(Clone, Copy, PartialEq)]
struct Fraction(i64, i64);

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

fn fraction(above: i64, below: i64) -> Fraction {
    let by = gcd(above, below) * below.signum();
    Fraction(above / by, below / by)
}

impl From<i64> for Fraction {
    fn from(whole: i64) -> Fraction {
        Fraction(whole, 1)
    }
}

impl Add for Fraction {
    type Output = Fraction;
    fn add(self, other: Fraction) -> Fraction {
        let common = gcd(self.1, other.1);
        fraction(
            self.0 * (other.1 / common) + other.0 * (self.1 / common),
            self.1 / common * other.1,
        )
    }
}

impl Mul for Fraction {
    type Output = Fraction;
    fn mul(self, other: Fraction) -> Fraction {
        let (one, two) = (fraction(self.0, other.1), fraction(other.0, self.1));
        Fraction(one.0 * two.0, one.1 * two.1)
    }
}

impl Div for Fraction {
    type Output = Fraction;
    #[expect(
        clippy::suspicious_arithmetic_impl,
        reason = "that is how fractions are divided"
    )]
    fn div(self, other: Fraction) -> Fraction {
        self * fraction(other.1, other.0)
    }
}

impl Neg for Fraction {
    type Output = Fraction;
    fn neg(self) -> Fraction {
        Fraction(-self.0, self.1)
    }
}

impl fmt::Debug for Fraction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            1 => write!(out, "{}", self.0),
            below => write!(out, "{}/{below}", self.0),
        }
    }
}

/// What a series gives. `powser2.go` is `powser1.go` with values behind an interface, which makes other code: so every
/// series here is made for both.
trait Item: Send + 'static {
    fn of(value: Fraction) -> Self;
    fn value(&self) -> Fraction;
}

impl Item for Fraction {
    fn of(value: Fraction) -> Fraction {
        value
    }
    fn value(&self) -> Fraction {
        *self
    }
}

trait Rational: Send {
    fn fraction(&self) -> Fraction;
}

impl Rational for Fraction {
    fn fraction(&self) -> Fraction {
        *self
    }
}

impl Item for Box<dyn Rational> {
    fn of(value: Fraction) -> Self {
        Box::new(value)
    }
    fn value(&self) -> Fraction {
        self.fraction()
    }
}

/// A series: a demand goes out, a coefficient comes back, or the end of the series, which is all zeros from there.
struct Series<T> {
    demand: Sender<()>,
    coefficients: Receiver<T>,
}

/// Counts the tasks of the series that are alive.
type Alive = Arc<()>;

/// Makes series of one kind.
struct Maker(Alive);

impl Clone for Maker {
    fn clone(&self) -> Maker {
        Maker(self.0.clone())
    }
}

impl<T: Item> Series<T> {
    fn get(&self) -> Option<Fraction> {
        self.demand.send(()).ok()?;
        self.coefficients.recv().ok().map(|item| item.value())
    }

    /// Zeros after the end.
    fn next(&self) -> Fraction {
        self.get().unwrap_or(Fraction(0, 1))
    }

    fn first(self, count: usize) -> Vec<Fraction> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// What is known of a series with two readers.
struct Split<T> {
    a: Series<T>,
    known: Vec<Fraction>,
    /// A coefficient was asked for and has not come.
    fetching: bool,
    places: [usize; 2],
}

impl<T: Item> Split<T> {
    fn fetched(&mut self, value: Option<Fraction>) {
        self.known.push(value.unwrap_or(0.into()));
        self.fetching = false;
    }

    /// The next coefficient of one reader; or it is asked for.
    fn next_of(&mut self, who: usize) -> Option<Fraction> {
        let place = self.places[who];
        if place == self.known.len() && !self.fetching {
            self.fetching = self.a.demand.send(()).is_ok();
            if !self.fetching {
                self.known.push(0.into()); // it has ended
            }
        }
        let value = self.known.get(place).copied();
        self.places[who] += usize::from(value.is_some());
        value
    }
}

impl Maker {
    /// A task that computes a coefficient at each demand; `f` is made when the first one comes, and None ends it.
    fn series<T, F, G>(&self, make: F) -> Series<T>
    where
        T: Item,
        F: FnOnce() -> G + Send + 'static,
        G: FnMut() -> Option<Fraction>,
    {
        let (demand, demanded) = rendezvous();
        let (sender, coefficients) = rendezvous();
        let alive = self.0.clone();
        bast::spawn(move || {
            let _alive = alive;
            let Ok(()) = demanded.recv() else { return };
            let mut f = make();
            while let Some(coefficient) = f() {
                if sender.send(T::of(coefficient)).is_err() || demanded.recv().is_err() {
                    return;
                }
            }
        });
        Series { demand, coefficients }
    }

    fn constant<T: Item>(&self, value: i64) -> Series<T> {
        self.series(move || move || Some(value.into()))
    }

    fn polynomial<T: Item>(&self, coefficients: &'static [i64]) -> Series<T> {
        self.series(move || {
            let mut rest = coefficients.iter();
            move || rest.next().map(|&n| n.into())
        })
    }

    fn add<T: Item>(&self, a: Series<T>, b: Series<T>) -> Series<T> {
        self.series(move || {
            move || match (a.get(), b.get()) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0.into()) + b.unwrap_or(0.into())),
            }
        })
    }

    fn times<T: Item>(&self, factor: Fraction, a: Series<T>) -> Series<T> {
        self.series(move || move || a.get().map(|n| factor * n))
    }

    /// `first + x a`.
    fn shifted<T: Item>(&self, first: Fraction, a: Series<T>) -> Series<T> {
        self.series(move || {
            let mut first = Some(first);
            move || first.take().or_else(|| a.get())
        })
    }

    fn derivative<T: Item>(&self, a: Series<T>) -> Series<T> {
        self.series(move || {
            let mut power = 0;
            a.get();
            move || {
                power += 1;
                a.get().map(|n| Fraction::from(power) * n)
            }
        })
    }

    fn integral<T: Item>(&self, first: Fraction, a: Series<T>) -> Series<T> {
        self.series(move || {
            let (mut first, mut power) = (Some(first), 0);
            move || {
                first.take().or_else(|| {
                    power += 1;
                    a.get().map(|n| n * fraction(1, power))
                })
            }
        })
    }

    /// `a(c x^n)`, for n of 1 or more.
    fn of_monomial<T: Item>(&self, a: Series<T>, c: i64, n: usize) -> Series<T> {
        self.series(move || {
            let (mut place, mut power) = (0, Fraction(1, 1));
            move || {
                let value = if place % n == 0 {
                    let value = a.get()? * power;
                    power = power * c.into();
                    value
                } else {
                    0.into()
                };
                place += 1;
                Some(value)
            }
        })
    }

    /// Two readers of one series, each at its own pace; the series is asked once for each coefficient. It ends with the
    /// last of them.
    fn split<T: Item>(&self, a: Series<T>) -> (Series<T>, Series<T>) {
        self.split_until(a, |open| open[0] || open[1])
    }

    /// As [`Maker::split`], while `go_on` says so of which readers are there.
    fn split_until<T: Item>(
        &self,
        a: Series<T>,
        go_on: impl Fn([bool; 2]) -> bool + Send + 'static,
    ) -> (Series<T>, Series<T>) {
        let (ask_one, one_asked) = rendezvous();
        let (ask_two, two_asked) = rendezvous();
        let (one, from_one) = rendezvous();
        let (two, from_two) = rendezvous();
        let alive = self.0.clone();
        bast::spawn(move || {
            let _alive = alive;
            let mut split = Split {
                a,
                known: Vec::new(),
                fetching: false,
                places: [0, 0],
            };
            let (mut asked, answers) = ([one_asked, two_asked], [one, two]);
            let (mut open, mut waiting) = ([true; 2], [false; 2]);
            let nothing = never();
            while go_on(open) {
                // Readers are heard while the series computes: it may be one of them.
                let coefficients = if split.fetching {
                    &split.a.coefficients
                } else {
                    &nothing
                };
                select! {
                    recv(asked[0]) -> demand => (open[0], waiting[0]) = (demand.is_ok(), demand.is_ok()),
                    recv(asked[1]) -> demand => (open[1], waiting[1]) = (demand.is_ok(), demand.is_ok()),
                    recv(coefficients) -> item => split.fetched(item.ok().map(|item: T| item.value())),
                }
                for who in 0..2 {
                    if !open[who] {
                        asked[who] = never();
                    } else if waiting[who]
                        && let Some(value) = split.next_of(who)
                    {
                        waiting[who] = false;
                        let _ = answers[who].send(T::of(value));
                    }
                }
            }
        });
        let (one, two) = ((ask_one, from_one), (ask_two, from_two));
        let series = |(demand, coefficients)| Series { demand, coefficients };
        (series(one), series(two))
    }

    /// `(a0 + x A)(b0 + x B) = a0 b0 + x (a0 B + b0 A + x A B)`.
    fn product<T: Item>(&self, a: Series<T>, b: Series<T>) -> Series<T> {
        let maker = self.clone();
        self.series(move || {
            let (a0, b0) = (a.next(), b.next());
            let (mut first, mut ends) = (Some(a0 * b0), Some((a, b)));
            let mut rest = None;
            move || {
                first.take().or_else(|| {
                    if let Some((a, b)) = ends.take() {
                        let ((a1, a2), (b1, b2)) = (maker.split(a), maker.split(b));
                        let outer = maker.add(maker.times(a0, b1), maker.times(b0, a1));
                        let inner = maker.shifted(0.into(), maker.product(a2, b2));
                        rest = Some(maker.add(outer, inner));
                    }
                    rest.as_ref().and_then(Series::get)
                })
            }
        })
    }

    /// `1/a = r` with `a r = 1`: `r0 = 1/a0`, and after it `-r0 A r`, whose second factor is the series itself.
    fn reciprocal<T: Item>(&self, a: Series<T>) -> Series<T> {
        let maker = self.clone();
        self.recursive(move |itself| {
            let r0 = Fraction(1, 1) / a.next();
            (r0, maker.times(-r0, maker.product(a, itself)))
        })
    }

    /// `e^a`, for a without a constant term: `X' = X a'`, so X is the integral of a product with itself.
    fn exponential<T: Item>(&self, a: Series<T>) -> Series<T> {
        let maker = self.clone();
        self.recursive(move |itself| {
            let rest = maker.integral(0.into(), maker.product(itself, maker.derivative(a)));
            rest.get();
            (1.into(), rest)
        })
    }

    /// `a(b)`, for b without a constant term: `a0 + x B A(b)`.
    fn composed<T: Item>(&self, a: Series<T>, b: Series<T>) -> Series<T> {
        let maker = self.clone();
        self.series(move || {
            let mut first = Some(a.next());
            let mut ends = Some((a, b));
            let mut rest = None;
            move || {
                first.take().or_else(|| {
                    if let Some((a, b)) = ends.take() {
                        let (b1, b2) = maker.split(b);
                        b1.get(); // 0, as is asked for
                        rest = Some(maker.product(b1, maker.composed(a, b2)));
                    }
                    rest.as_ref().and_then(Series::get)
                })
            }
        })
    }

    /// A series that `f` makes of a first coefficient and a rest that reads the series itself.
    fn recursive<T, F>(&self, f: F) -> Series<T>
    where
        T: Item,
        F: FnOnce(Series<T>) -> (Fraction, Series<T>) + Send + 'static,
    {
        // What the series gives also goes to the one who reads itself, by way of a second, later half.
        let (hand_over, handed_over) = rendezvous();
        let whole = self.series(move || {
            let (mut first, rest): (Option<Fraction>, Series<T>) = handed_over.recv().expect("made below");
            move || first.take().or_else(|| rest.get())
        });
        // Nobody would end a ring: it ends when its reader from outside goes.
        let (one, two) = self.split_until(whole, |open| open[0]);
        let alive = self.0.clone();
        bast::spawn(move || {
            let _alive = alive;
            let (first, rest) = f(two);
            let _ = hand_over.send((Some(first), rest));
        });
        one
    }
}

fn fractions(of: &[(i64, i64)]) -> Vec<Fraction> {
    of.iter().map(|&(above, below)| fraction(above, below)).collect()
}

fn whole(of: &[i64]) -> Vec<Fraction> {
    of.iter().map(|&n| n.into()).collect()
}

/// Simple series, and what is made of one at a time.
fn simple<T: Item>(make: &Maker) {
    let ones = || make.constant::<T>(1);
    assert_eq!(ones().first(10), whole(&[1; 10]));
    assert_eq!(make.add(ones(), make.constant(2)).first(10), whole(&[3; 10]));
    assert_eq!(make.polynomial::<T>(&[1, 2, 3]).first(5), whole(&[1, 2, 3, 0, 0]));
    let longer = make.add(make.polynomial::<T>(&[5]), make.polynomial(&[1, 2, 3]));
    assert_eq!(longer.first(5), whole(&[6, 2, 3, 0, 0]));
    assert_eq!(make.derivative(ones()).first(6), whole(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(
        make.integral(0.into(), ones()).first(5),
        fractions(&[(0, 1), (1, 1), (1, 2), (1, 3), (1, 4)])
    );
    assert_eq!(make.times((-1).into(), ones()).first(4), whole(&[-1; 4]));
    assert_eq!(make.shifted(41.into(), ones()).first(3), whole(&[41, 1, 1]));
    assert_eq!(
        make.of_monomial(ones(), -1, 2).first(7),
        whole(&[1, 0, -1, 0, 1, 0, -1])
    );
    let (one, two) = make.split(make.derivative(ones()));
    assert_eq!(two.first(7), whole(&[1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(one.first(3), whole(&[1, 2, 3]));
}

/// Trees of series: products, reciprocals, exponentials, compositions.
fn composed<T: Item>(make: &Maker) {
    let ones = || make.constant::<T>(1);
    assert_eq!(
        make.product(ones(), ones()).first(8),
        whole(&[1, 2, 3, 4, 5, 6, 7, 8])
    );
    let cube = make.product(make.product(ones(), ones()), ones());
    assert_eq!(cube.first(6), whole(&[1, 3, 6, 10, 15, 21]));
    // 1/(1 - x) and back.
    assert_eq!(make.reciprocal(ones()).first(6), whole(&[1, -1, 0, 0, 0, 0]));
    assert_eq!(
        make.reciprocal(make.polynomial::<T>(&[1, -1, -1])).first(8),
        whole(&[1, 1, 2, 3, 5, 8, 13, 21])
    );
    // e^x, and e^(x/(1-x)).
    let x = make.polynomial::<T>(&[0, 1]);
    assert_eq!(
        make.exponential(x).first(6),
        fractions(&[(1, 1), (1, 1), (1, 2), (1, 6), (1, 24), (1, 120)])
    );
    let deeper = make.exponential(make.shifted(0.into(), ones()));
    assert_eq!(
        deeper.first(5),
        fractions(&[(1, 1), (1, 1), (3, 2), (13, 6), (73, 24)])
    );
    // The arctangent, and by composition 1/(1 - (x + x²)): Fibonacci's numbers again.
    let arctangent = make.integral(0.into(), make.of_monomial(ones(), -1, 2));
    assert_eq!(
        arctangent.first(8),
        fractions(&[(0, 1), (1, 1), (0, 1), (-1, 3), (0, 1), (1, 5), (0, 1), (-1, 7)])
    );
    assert_eq!(
        make.composed(ones(), make.polynomial(&[0, 1, 1])).first(7),
        whole(&[1, 1, 2, 3, 5, 8, 13])
    );
}

/// Every task ends when what it serves is gone: the end runs through the whole tree, also where a series reads itself.
fn all_end(maker: Maker) {
    wait_for(|| Arc::strong_count(&maker.0) == 1);
}

#[test]
fn powser1() {
    on_each(|| {
        let maker = Maker(Arc::new(()));
        simple::<Fraction>(&maker);
        composed::<Fraction>(&maker);
        all_end(maker);
    });
}

#[test]
fn powser2() {
    on_each(|| {
        let maker = Maker(Arc::new(()));
        simple::<Box<dyn Rational>>(&maker);
        composed::<Box<dyn Rational>>(&maker);
        all_end(maker);
    });
}
