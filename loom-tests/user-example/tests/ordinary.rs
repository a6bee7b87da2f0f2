//! The same code on the real scheduler: it works, with and without the bugs, nearly always.
#![cfg(not(bast_loom))]

use bast::sync::channel;
use bast_user_example::{Account, Visits, sum, transfer};
use std::sync::Arc;

#[test]
fn it_works() {
    // SAFETY: nothing bound to a thread is used.
    unsafe {
        bast::run(|| {
            let visits = Arc::new(Visits::new());
            let accounts = Arc::new([Account::new(1, 100), Account::new(2, 100)]);
            let tasks: Vec<_> = (0..100)
                .map(|n| {
                    let (visits, accounts) = (visits.clone(), accounts.clone());
                    bast::spawn(move || {
                        visits.visit();
                        transfer(&accounts[n % 2], &accounts[(n + 1) % 2], 10);
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            assert_eq!(visits.count(), 100);
            assert_eq!([accounts[0].balance(), accounts[1].balance()], [100, 100]);

            let (values, to_add) = channel::unbounded();
            let (stop, stopped) = channel::bounded(1);
            let (result, total) = channel::rendezvous();
            let task = bast::spawn(move || sum(&to_add, &stopped, &result));
            (1..=10).for_each(|value| values.send(value).unwrap());
            stop.send(()).unwrap();
            assert_eq!(total.recv(), Ok(55));
            task.join().unwrap();
        });
    }
}
