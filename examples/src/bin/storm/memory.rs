//! The allocator: stretches of `malloc` and `free` in which a task may lose its processor, and memory that is freed on
//! another thread than it came from.

use bast_examples::stress::tools::{Ground, Rng};
use std::time::{Duration, Instant};

/// Blocks alive at once in one task.
const ALIVE_MAX: usize = 64;

/// Tasks that allocate, grow and free, look whether somebody else wrote there, and hand some blocks to other tasks.
pub(crate) fn malloc(ground: Ground, rng: &mut Rng) {
    super::crowd(ground, rng, 8, |ground, number, rng| {
        for _ in 0..3 {
            let blocks = churn(ground, number as u8, rng);
            let count = blocks.len();
            // They are freed by whoever runs that task.
            let other = bast::spawn(move || blocks.iter().filter(|block| is_whole(block)).count());
            let whole = ground.must(other.join(), "join");
            ground.same(whole, count, "blocks that came over whole");
        }
    });
}

/// For up to two slices, without a call into bast.
fn churn(ground: Ground, mark: u8, rng: &mut Rng) -> Vec<Vec<u8>> {
    let (began, time) = (Instant::now(), Duration::from_micros(rng.below(20_000)));
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(ALIVE_MAX);
    loop {
        match rng.below(4) {
            0 if !blocks.is_empty() => {
                let at = rng.below(blocks.len() as u64) as usize;
                let block = blocks.swap_remove(at);
                ground.check(is_whole(&block), || "a block was written to".to_owned());
            }
            1 if !blocks.is_empty() => {
                let at = rng.below(blocks.len() as u64) as usize;
                let block = &mut blocks[at];
                let fill = block[0];
                block.resize(1 + size(rng), fill);
                ground.check(is_whole(block), || "realloc lost what was there".to_owned());
            }
            _ if blocks.len() < ALIVE_MAX => {
                blocks.push(vec![mark.wrapping_add(blocks.len() as u8); 1 + size(rng)])
            }
            _ => blocks.truncate(ALIVE_MAX / 2),
        }
        if began.elapsed() >= time {
            return blocks;
        }
    }
}

/// Mostly small, now and then what the C library maps by itself.
fn size(rng: &mut Rng) -> usize {
    let bits = if rng.one_in(200) { 18 } else { 3 + rng.below(9) };
    rng.below(1 << bits) as usize
}

/// All bytes are as the first.
fn is_whole(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == block[0])
}
