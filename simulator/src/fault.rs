//! What goes wrong on purpose, and how often.
//!
//! Faults are drawn from the station's own stream, so the same seed and start make the same ones.
//! The ledger needs no note of them: it holds what was meant, and these faults change when and how
//! often a reading is sent, not what it says.

/// Rates, in a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRates {
    /// A reading that its station forwards twice, the second time in a later batch (the device
    /// repeated itself because the network's answer was lost). Of readings.
    pub duplicate: u32,
    /// A reading that is stuck at the station and overtaken by later ones. Of readings.
    pub reorder: u32,
    /// A batch that is published again, byte for byte, after it was acknowledged or not. Of batches.
    pub republish: u32,
}

impl Default for FaultRates {
    /// Networks of this kind show 0.5 to 2 % of duplicates.
    fn default() -> Self {
        Self { duplicate: 10_000, reorder: 5_000, republish: 5_000 }
    }
}

impl FaultRates {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { duplicate: 0, reorder: 0, republish: 0 };
}
