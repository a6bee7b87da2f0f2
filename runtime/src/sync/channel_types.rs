//! What the compiler must refuse about channels (Go's `test/chan/perm.go` and `sendstmt.go`): each example below fails
//! to compile, for the reason its heading names. Only there when the documentation is tested.
//!
//! A receiver does not send:
//! ```compile_fail,E0599
//! let (_sender, receiver) = bast::sync::channel::bounded(1);
//! receiver.send(1);
//! ```
//! nor a sender receive:
//! ```compile_fail,E0599
//! let (sender, _receiver) = bast::sync::channel::bounded::<u8>(1);
//! sender.recv();
//! ```
//! nor either in a `select!`:
//! ```compile_fail,E0308
//! let (_sender, receiver) = bast::sync::channel::bounded(1);
//! bast::select! { send(receiver, 1) -> _ => {} }
//! ```
//! ```compile_fail,E0308
//! let (sender, _receiver) = bast::sync::channel::bounded::<u8>(1);
//! bast::select! { recv(sender) -> _ => {} }
//! ```
//! A sender is not iterated over:
//! ```compile_fail,E0277
//! let (sender, _receiver) = bast::sync::channel::bounded::<u8>(1);
//! for _ in &sender {}
//! ```
//! Values are of one type:
//! ```compile_fail,E0308
//! let (sender, _receiver) = bast::sync::channel::bounded::<u8>(1);
//! sender.send("text");
//! ```
//! What is sent is the sender's no more:
//! ```compile_fail,E0382
//! let (sender, _receiver) = bast::sync::channel::bounded(1);
//! let text = String::from("text");
//! sender.send(text);
//! println!("{text}");
//! ```
//! in a `select!` neither:
//! ```compile_fail,E0382
//! let (sender, _receiver) = bast::sync::channel::bounded(1);
//! let text = String::from("text");
//! bast::select! { send(sender, text) -> _ => {}, default => {} }
//! println!("{text}");
//! ```
//! An unread result of a send is noticed, because the value may have come back:
//! ```compile_fail
//! #![deny(unused_must_use)]
//! let (sender, _receiver) = bast::sync::channel::bounded(1);
//! sender.send(1);
//! ```
//! Ends of channels of values that must not go to another thread do not go there:
//! ```compile_fail,E0277
//! let (sender, _receiver) = bast::sync::channel::bounded::<std::rc::Rc<u8>>(1);
//! bast::spawn(move || drop(sender));
//! ```
//! A moment is received, never sent:
//! ```compile_fail,E0308
//! use std::time::{Duration, Instant};
//! let moments = bast::sync::channel::after(Duration::ZERO);
//! bast::select! { send(moments, Instant::now()) -> _ => {} }
//! ```
//! A `select!` takes one `default`, and nothing it does not know:
//! ```compile_fail
//! bast::select! { default => {}, default => {} }
//! ```
//! ```compile_fail
//! let (sender, _receiver) = bast::sync::channel::bounded(1);
//! bast::select! { try_send(sender, 1) -> _ => {} }
//! ```
//! and its cases agree about its value:
//! ```compile_fail,E0308
//! let (_sender, receiver) = bast::sync::channel::bounded::<u8>(1);
//! let _ = bast::select! { recv(receiver) -> _ => 1, default => "text" };
//! ```
//! The guard of a value that only one may look at is not shared:
//! ```compile_fail,E0277
//! fn shared<T: Sync>(_: T) {}
//! let mutex = bast::sync::Mutex::new(std::cell::Cell::new(0));
//! shared(mutex.lock().unwrap());
//! ```
//! nor such a value put where many read:
//! ```compile_fail,E0277
//! fn shared<T: Sync>(_: T) {}
//! shared(bast::sync::RwLock::new(std::cell::Cell::new(0)));
//! ```
//! A guard does not outlive its lock:
//! ```compile_fail,E0597
//! let guard = {
//!     let lock = bast::sync::RwLock::new(0);
//!     let guard = lock.read().unwrap();
//!     guard
//! };
//! drop(guard);
//! ```
