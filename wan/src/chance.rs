//! Rare events among packets, drawn once for each event instead of once for each packet.

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// The generator of everything here: named, so that a seed means the same in every version.
pub(crate) type Generator = Xoshiro256PlusPlus;

/// A generator for one purpose in one direction: what is drawn for another changes nothing here.
pub(crate) fn generator(seed: u64, purpose: u64) -> Generator {
    Generator::seed_from_u64(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// From above 0 up to 1.
pub(crate) fn uniform(generator: &mut Generator) -> f64 {
    1.0 - generator.random::<f64>()
}

/// Packets before the next event, if each of them has it with probability `share`.
pub(crate) fn gap(generator: &mut Generator, share: f64) -> u64 {
    if share >= 1.0 {
        return 0;
    }
    if share <= 0.0 {
        return u64::MAX;
    }
    let gap = uniform(generator).ln() / (-share).ln_1p();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float beyond an integer becomes the largest"
    )]
    let whole = gap as u64;
    whole
}

/// An event that each packet has with the same probability.
#[derive(Debug)]
pub(crate) struct Events {
    share: f64,
    generator: Generator,
    /// Packets before the next one.
    before: u64,
}

impl Events {
    pub(crate) fn new(share: f64, mut generator: Generator) -> Self {
        let before = gap(&mut generator, share);
        Self {
            share,
            generator,
            before,
        }
    }

    /// Whether none of the next `count` packets has it. If so they have passed.
    pub(crate) fn spare(&mut self, count: u64) -> bool {
        let spared = self.before >= count;
        if spared && self.before != u64::MAX {
            self.before -= count;
        }
        spared
    }

    /// Whether the next packet has it.
    pub(crate) fn hit(&mut self) -> bool {
        if self.spare(1) {
            return false;
        }
        self.before = gap(&mut self.generator, self.share);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_asked_for() {
        for share in [0.0001, 0.01, 0.3, 0.99] {
            let mut events = Events::new(share, generator(7, 1));
            let count = 2_000_000;
            let hits = (0..count).filter(|_| events.hit()).count();
            let mean = share * f64::from(count);
            let deviation = (mean * (1.0 - share)).sqrt();
            let off = (hits as f64 - mean).abs();
            assert!(off < 4.0 * deviation, "{share}: {hits} of {count}");
        }
    }

    #[test]
    fn never_and_always() {
        let mut never = Events::new(0.0, generator(1, 1));
        assert!(never.spare(u64::MAX) && !never.hit());
        let mut always = Events::new(1.0, generator(1, 1));
        assert!((0..1000).all(|_| always.hit()));
    }

    #[test]
    fn packets_passed_together_count_one_by_one() {
        let mut one = Events::new(0.001, generator(3, 1));
        let mut many = Events::new(0.001, generator(3, 1));
        let single: Vec<bool> = (0..100_000).map(|_| one.hit()).collect();
        let mut grouped = Vec::new();
        while grouped.len() < single.len() {
            if many.spare(40) {
                grouped.extend([false; 40]);
            } else {
                grouped.extend((0..40).map(|_| many.hit()));
            }
        }
        assert_eq!(single, grouped);
        assert!(single.contains(&true));
    }

    #[test]
    fn a_seed_repeats_a_run_and_another_does_not() {
        let run = |seed| {
            let mut events = Events::new(0.1, generator(seed, 2));
            (0..1000).map(|_| events.hit()).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
