//! Which packets are lost: each with the same probability, and in bursts.

use crate::{
    chance::{Events, Generator, gap, generator},
    settings::{Burst, Settings},
};

/// The losses of one direction.
#[derive(Debug)]
pub(crate) struct Losses {
    random: Option<Events>,
    bursts: Option<Bursts>,
}

impl Losses {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        let is_random = settings.loss > 0.0;
        Self {
            random: is_random.then(|| Events::new(settings.loss, generator(seed, 1))),
            bursts: settings.burst.map(|burst| Bursts::new(burst, seed)),
        }
    }

    /// Whether none of the next `count` packets is lost. If so they have passed, else none has.
    pub(crate) fn spare(&mut self, count: u64) -> bool {
        let quiet = self.bursts.as_ref().is_none_or(|one| one.is_quiet(count));
        let spared = quiet && self.random.as_mut().is_none_or(|one| one.spare(count));
        if spared && let Some(bursts) = &mut self.bursts {
            bursts.left -= count;
        }
        spared
    }

    /// Whether the next packet is lost.
    pub(crate) fn hit(&mut self) -> bool {
        // Both go on, so that neither depends on the other.
        let random = self.random.as_mut().is_some_and(Events::hit);
        let burst = self.bursts.as_mut().is_some_and(Bursts::hit);
        random || burst
    }
}

/// Gilbert and Elliott's chain: a good state without losses, a bad one in which most are lost, and a
/// fixed probability, packet by packet, of going from one to the other.
#[derive(Debug)]
struct Bursts {
    burst: Burst,
    generator: Generator,
    is_bad: bool,
    /// Packets that this state still lasts.
    left: u64,
    lost: Events,
}

impl Bursts {
    fn new(burst: Burst, seed: u64) -> Self {
        let mut generator = generator(seed, 2);
        let left = gap(&mut generator, burst.begins);
        Self {
            burst,
            generator,
            is_bad: false,
            left,
            lost: Events::new(burst.lost, self::generator(seed, 3)),
        }
    }

    fn is_quiet(&self, count: u64) -> bool {
        !self.is_bad && self.left >= count
    }

    fn hit(&mut self) -> bool {
        while self.left == 0 {
            self.is_bad = !self.is_bad;
            self.left = if self.is_bad {
                // At least the one that began it.
                gap(&mut self.generator, 1.0 / self.burst.length).saturating_add(1)
            } else {
                gap(&mut self.generator, self.burst.begins)
            };
        }
        self.left -= 1;
        self.is_bad && self.lost.hit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bursts(begins: f64, length: f64, lost: f64) -> Losses {
        let burst = Burst {
            begins,
            length,
            lost,
        };
        let settings = Settings {
            burst: Some(burst),
            ..Settings::default()
        };
        Losses::new(&settings, 11)
    }

    /// How long each run of losses was.
    fn runs(losses: &mut Losses, count: u64) -> Vec<u64> {
        let mut runs = Vec::new();
        let mut run = 0;
        for _ in 0..count {
            if losses.hit() {
                run += 1;
            } else if run > 0 {
                runs.push(std::mem::take(&mut run));
            }
        }
        runs
    }

    #[test]
    fn bursts_are_as_often_and_as_long_as_asked() {
        let mut losses = bursts(0.001, 8.0, 1.0);
        let runs = runs(&mut losses, 5_000_000);
        let count = runs.len() as f64;
        let mean = runs.iter().sum::<u64>() as f64 / count;
        // The standard deviation of a geometric mean of eight over five thousand is about 0.11.
        assert!((mean - 8.0).abs() < 0.5, "mean length {mean}");
        // A burst begins in each 1000 good packets, and takes eight itself.
        let expected = 5_000_000.0 / 1008.0;
        assert!((count - expected).abs() < 4.0 * expected.sqrt(), "{count}");
        assert!(runs.iter().max() > Some(&24), "geometric, not fixed");
    }

    #[test]
    fn a_share_of_a_burst_may_get_through() {
        let mut losses = bursts(0.01, 100.0, 0.25);
        let count = 1_000_000;
        let lost = (0..count).filter(|_| losses.hit()).count() as f64;
        // Half of the time is bad, a quarter of that is lost.
        let share = lost / f64::from(count);
        assert!((share - 0.125).abs() < 0.01, "{share}");
    }

    #[test]
    fn random_losses_and_bursts_add_up_and_repeat() {
        let burst = Burst {
            begins: 0.001,
            length: 10.0,
            lost: 1.0,
        };
        let settings = Settings {
            loss: 0.01,
            burst: Some(burst),
            ..Settings::default()
        };
        let run = |together: u64| {
            let mut losses = Losses::new(&settings, 4);
            let mut fate = Vec::new();
            while fate.len() < 400_000 {
                if together > 1 && losses.spare(together) {
                    fate.extend((0..together).map(|_| false));
                } else {
                    fate.extend((0..together).map(|_| losses.hit()));
                }
            }
            fate
        };
        let one = run(1);
        assert_eq!(one, run(40));
        let share = one.iter().filter(|lost| **lost).count() as f64 / one.len() as f64;
        assert!((share - 0.0199).abs() < 0.003, "{share}");
    }

    #[test]
    fn a_burst_that_always_begins_never_ends() {
        let mut losses = bursts(1.0, 1.0, 1.0);
        assert!(!losses.spare(1));
        assert!((0..1000).all(|_| losses.hit()));
    }

    #[test]
    fn nothing_asked_nothing_lost() {
        let mut losses = Losses::new(&Settings::default(), 1);
        assert!(losses.spare(1_000_000) && !losses.hit());
    }
}
