//! The cells of an answer, and what is kept of each.

use hashbrown::HashMap;
use sketches_ddsketch::{Config, DDSketch};

use super::super::super::QueryError;
use super::super::bounds::Budget;
use super::Function;

/// Values of a cell of which percentiles are exact.
pub const EXACT_VALUES: usize = 4096;
/// The relative error of percentiles of more values.
pub const SKETCH_ERROR: f64 = 0.005;
/// Bins of a sketch at most: enough for seven orders of magnitude on either side of zero.
const SKETCH_BINS: u32 = 2048;
/// Values nearer to zero count as zero in a sketch.
const SKETCH_LEAST: f64 = 1e-6;
/// Bytes of a sketch, about: its bins on both sides.
const SKETCH_BYTES: usize = SKETCH_BINS as usize * 8;
/// Bytes of a cell: what is kept of it, its place in the map, and its place in the answer.
const CELL_BYTES: usize = size_of::<Kept>() + 2 * size_of::<((u64, i64), u32)>() + 128;

/// Cells by group and beginning of their bin.
#[derive(Debug, Default)]
pub(super) struct Cells {
    places: HashMap<(u64, i64), u32>,
    kept: Vec<Kept>,
    /// The cell that was touched last; of a device's rows the next one mostly is the same.
    last: Option<((u64, i64), usize)>,
    needs_quantiles: bool,
}

/// Group, beginning of the bin, and figures.
pub(super) type Figures = (u64, i64, Vec<Option<f64>>);

/// What is kept of a cell.
#[derive(Debug)]
struct Kept {
    count: u64,
    sum: f64,
    /// What the sum has lost to rounding (Neumaier): it does not depend on which file came first.
    lost: f64,
    min: f64,
    max: f64,
    first: (i64, u64, f64),
    last: (i64, u64, f64),
    values: Option<Box<Values>>,
    increase: Option<f64>,
    rate: Option<f64>,
}

enum Values {
    Exact(Vec<f64>),
    Sketch(DDSketch),
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(values) => f.debug_tuple("Exact").field(&values.len()).finish(),
            Self::Sketch(sketch) => f.debug_tuple("Sketch").field(&sketch.count()).finish(),
        }
    }
}

impl Kept {
    const EMPTY: Self = Self {
        count: 0,
        sum: 0.0,
        lost: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        first: (i64::MAX, u64::MAX, 0.0),
        last: (i64::MIN, 0, 0.0),
        values: None,
        increase: None,
        rate: None,
    };
}

impl Cells {
    pub(super) fn new(functions: &[Function]) -> Self {
        let needs_quantiles = functions.iter().any(|f| matches!(f, Function::Quantile(_)));
        Self { needs_quantiles, ..Self::default() }
    }

    fn at(&mut self, key: (u64, i64), budget: &mut Budget) -> Result<&mut Kept, QueryError> {
        let at = match self.last {
            Some((last, at)) if last == key => at,
            _ => {
                let at = match self.places.get(&key) {
                    Some(at) => *at as usize,
                    None => {
                        budget.take(CELL_BYTES)?;
                        let at = self.kept.len();
                        let number = u32::try_from(at).map_err(|_| budget.exceeded())?;
                        self.places.insert(key, number);
                        self.kept.push(Kept::EMPTY);
                        at
                    }
                };
                self.last = Some((key, at));
                at
            }
        };
        self.kept.get_mut(at).ok_or_else(|| budget.exceeded())
    }

    /// Takes a value in.
    pub(super) fn add(
        &mut self,
        key: (u64, i64),
        (at_ms, lsn): (i64, u64),
        value: f64,
        budget: &mut Budget,
    ) -> Result<(), QueryError> {
        let needs_quantiles = self.needs_quantiles;
        let kept = self.at(key, budget)?;
        kept.count += 1;
        let sum = kept.sum + value;
        kept.lost += if kept.sum.abs() >= value.abs() {
            (kept.sum - sum) + value
        } else {
            (value - sum) + kept.sum
        };
        kept.sum = sum;
        kept.min = kept.min.min(value);
        kept.max = kept.max.max(value);
        if (at_ms, lsn) < (kept.first.0, kept.first.1) {
            kept.first = (at_ms, lsn, value);
        }
        if (at_ms, lsn) >= (kept.last.0, kept.last.1) {
            kept.last = (at_ms, lsn, value);
        }
        if needs_quantiles {
            kept.values
                .get_or_insert_with(|| Box::new(Values::Exact(Vec::new())))
                .add(value, budget)?;
        }
        Ok(())
    }

    /// Takes in what a counter of a device counted, and how fast.
    pub(super) fn count(
        &mut self,
        key: (u64, i64),
        increase: f64,
        rate: f64,
        budget: &mut Budget,
    ) -> Result<(), QueryError> {
        let kept = self.at(key, budget)?;
        *kept.increase.get_or_insert(0.0) += increase;
        *kept.rate.get_or_insert(0.0) += rate;
        Ok(())
    }

    /// Group, beginning and figures of every cell, and whether some of them are approximate.
    pub(super) fn finish(mut self, functions: &[Function]) -> (Vec<Figures>, bool) {
        let mut approximate = false;
        let mut done = Vec::with_capacity(self.kept.len());
        for ((group, start), at) in self.places {
            let Some(kept) = self.kept.get_mut(at as usize) else { continue };
            if let Some(values) = kept.values.as_deref_mut() {
                match values {
                    Values::Exact(values) => values.sort_by(f64::total_cmp),
                    Values::Sketch(_) => approximate = true,
                }
            }
            let values = functions.iter().map(|function| kept.figure(*function)).collect();
            done.push((group, start, values));
        }
        (done, approximate)
    }
}

impl Kept {
    #[allow(clippy::cast_precision_loss)] // no store holds 2^53 readings
    fn figure(&self, function: Function) -> Option<f64> {
        let some = |value: f64| (self.count > 0).then_some(value);
        match function {
            Function::Count => Some(self.count as f64),
            Function::Sum => some(self.sum + self.lost),
            Function::Mean => some((self.sum + self.lost) / self.count as f64),
            Function::Min => some(self.min),
            Function::Max => some(self.max),
            Function::First => some(self.first.2),
            Function::Last => some(self.last.2),
            Function::Quantile(part) => self.values.as_deref()?.quantile(part),
            Function::Increase => self.increase,
            Function::Rate => self.rate,
        }
    }
}

impl Values {
    fn add(&mut self, value: f64, budget: &mut Budget) -> Result<(), QueryError> {
        match self {
            Self::Sketch(sketch) => sketch.add(value),
            Self::Exact(values) if values.len() < EXACT_VALUES => {
                if values.len() == values.capacity() {
                    let more = values.capacity().max(4);
                    budget.take(more * size_of::<f64>())?;
                    values.reserve_exact(more);
                }
                values.push(value);
            }
            Self::Exact(values) => {
                budget.take(SKETCH_BYTES)?;
                budget.give_back(values.capacity() * size_of::<f64>());
                let config = Config::new(SKETCH_ERROR, SKETCH_BINS, SKETCH_LEAST);
                let mut sketch = DDSketch::new(config);
                values.iter().for_each(|value| sketch.add(*value));
                sketch.add(value);
                *self = Self::Sketch(sketch);
            }
        }
        Ok(())
    }

    /// The nearest rank: the smallest value that at least this part of them does not exceed. Exact
    /// values are in order.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn quantile(&self, part: f64) -> Option<f64> {
        match self {
            // A few thousand values at most, and a part from 0 to 1.
            Self::Exact(values) => {
                let rank = (part * values.len() as f64).ceil() as usize;
                values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1))).copied()
            }
            Self::Sketch(sketch) => sketch.quantile(part).ok().flatten(),
        }
    }
}
