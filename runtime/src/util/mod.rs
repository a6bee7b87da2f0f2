//! Small tools that know nothing of tasks.

pub(crate) mod rng;
