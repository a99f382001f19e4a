//! Chance that is the same everywhere.
//!
//! Every stream of numbers starts from a key (seed, start, who asks), never from another stream's
//! state, so that adding a device or a fault moves nobody else's numbers. Only integers, the four
//! IEEE operations and `libm` are used: the platform's own `ln` or `cos` may differ in the last bit.

/// One well mixed number of several (splitmix64's finalizer over each part in turn).
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x6c6f_7573_6861_6e31, |state, part| {
        finalize(state.wrapping_add(*part).wrapping_add(0x9e37_79b9_7f4a_7c15))
    })
}

fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a stream of numbers is for, so that no two uses of a key share a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    Device = 1,
    Station = 2,
    Session = 3,
    Plan = 4,
    Publisher = 5,
    Fleet = 6,
}

/// A stream of numbers: xoshiro256** 1.0 (Blackman and Vigna), seeded by splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(crate) fn new(purpose: Use, key: &[u64]) -> Self {
        let mut z = mix(&[purpose as u64, mix(key)]);
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            finalize(z)
        });
        Self { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// From 0 up to and without `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: biased by less than 2^-32 for the small bounds used here.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.abs_diff(low).saturating_add(1);
        low.wrapping_add_unsigned(self.below(span))
    }

    /// In [0, 1), a multiple of 2^-53.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit exactly
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// True this often in a million.
    pub(crate) fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// A wait between events that come by chance, in ms: exponential, at least one ms.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    pub(crate) fn wait_ms(&mut self, mean_ms: i64) -> i64 {
        let wait = -libm::log(1.0 - self.unit()) * mean_ms as f64;
        (wait as i64).max(1)
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Normal with a deviation, rounded to a whole number.
    #[allow(clippy::cast_possible_truncation)] // `as` saturates
    pub(crate) fn noise(&mut self, deviation: f64) -> i64 {
        libm::round(self.normal() * deviation) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_pinned() {
        let mut rng = Rng::new(Use::Device, &[1, 2, 3]);
        let got: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        let mut again = Rng::new(Use::Device, &[1, 2, 3]);
        assert_eq!(got, (0..3).map(|_| again.next()).collect::<Vec<_>>());
        assert_ne!(got[0], Rng::new(Use::Station, &[1, 2, 3]).next());
        assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
    }

    #[test]
    fn draws_stay_in_their_bounds_and_near_their_means() {
        let mut rng = Rng::new(Use::Device, &[9]);
        let (mut waits, mut squares) = (0_i64, 0.0);
        for _ in 0..20_000 {
            assert!((-3..=3).contains(&rng.between(-3, 3)));
            assert!((0.0..1.0).contains(&rng.unit()));
            waits += rng.wait_ms(1000);
            squares += rng.normal().powi(2);
        }
        assert!((950..1050).contains(&(waits / 20_000)), "{waits}");
        assert!((0.95..1.05).contains(&(squares / 20_000.0)), "{squares}");
    }
}
