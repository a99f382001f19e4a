//! A household's water meter: a day curve, a total that only grows, and the last 24 hours with it.
//!
//! What an hour draws is a function of the meter and the hour alone, so the deltas of two reports,
//! and of two runs, agree wherever their hours overlap, and the total is always the sum of the hours
//! before it. So is what befalls it: a pipe that leaks until somebody mends it; one that bursts until
//! somebody shuts the valve; a main that loses pressure and draws water back; a meter that is changed
//! after six years for one that knows nothing of the hours before; and a few that were mounted with
//! an index near the end of their register, which begins again at 0.

use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::reading::{Body, Water};

use super::spell::Chance;
use super::{Model, Trigger};
use crate::city::{DAY, HOUR, SECOND, in_service, is_weekend, local_day, local_hour, outdoor_dc};
use crate::faults::Incident;
use crate::seed::{Rng, Use, mix};

const VALVE_OPEN: i32 = 1;
const VALVE_CLOSED: i32 = 2;
const LEAK: i32 = 1;
const BURST: i32 = 2;
const BACKFLOW: i32 = 3;
/// The wire's number of the alarm that its battery is low.
pub(super) const LOW_BATTERY: i32 = 5;
const HOURS: usize = 24;

/// Share of a day's water by hour, in thousandths: an early and a late peak.
const WEEKDAY: [i64; HOURS] = [
    8, 5, 4, 4, 6, 18, 62, 88, 72, 50, 40, 46, //
    52, 38, 30, 28, 34, 52, 84, 96, 84, 56, 30, 13,
];
/// People sleep longer, wash, and cook at noon.
const WEEKEND: [i64; HOURS] = [
    9, 7, 5, 4, 5, 9, 24, 48, 72, 84, 76, 66, //
    62, 48, 40, 38, 42, 54, 72, 80, 70, 50, 25, 10,
];

/// Of a hundred meters so many sit in a cellar, or a shaft with an iron lid.
const IN_THE_CELLAR_PCT: u64 = 25;
/// From a burst's end, when the valve is shut, until the pipe is mended.
const SHUT_H: i64 = 3;
/// Meters that come near the end of their register, in a million.
const NEAR_THE_END: u32 = 20_000;

/// Whether a device's place is one where radio hardly reaches.
pub(super) fn in_the_cellar([seed, imei]: [u64; 2]) -> bool {
    mix(&[seed, imei, 6]) % 100 < IN_THE_CELLAR_PCT
}

/// A meter. Its hours are full ones since 1970.
#[derive(Debug)]
pub(super) struct Meter {
    key: [u64; 2],
    litres_a_day: i64,
    /// What the register showed when the pilot began, were it endless.
    base_l: i64,
    reverse_base_l: i64,
    first_hour: i64,
    /// The hour up to which is counted, all litres there, also of meters before this one, and the
    /// last 24 hours.
    hour: i64,
    all_l: i64,
    reverse_l: i64,
    deltas: [i32; HOURS],
    /// When this meter was mounted, if that was in the pilot's time, and what all was then.
    mounted: Option<(i64, i64)>,
    /// A local day and what was drawn from its beginning to each full hour of it.
    day: i64,
    drawn: [i64; HOURS + 1],
    leak: Chance,
    burst: Chance,
    backflow: Chance,
    swap: Chance,
    next_change: i64,
    pressure_kpa: i64,
    incidents: Vec<Incident>,
}

/// What runs through a pipe in an hour, beside or instead of what its household draws.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Troubles {
    leak_l: i64,
    burst_l: i64,
    back_l: i64,
    shut: bool,
}

impl Meter {
    pub(super) fn new(start: i64, key: [u64; 2], nature: &mut Rng) -> Self {
        // Their unit is the hour.
        let chance = |what, days: i64, per_million, lasts| {
            Chance::of(key, what, days * 24, per_million, lasts)
        };
        let first_hour = (start - in_service(start)).div_euclid(HOUR);
        let litres_a_day = nature.between(120, 520);
        let index = nature.between(20_000, 900_000);
        let days_left = nature.between(200, 3000);
        let near_the_end = nature.chance(NEAR_THE_END);
        let base_l = if near_the_end { WATER_MODULUS_L - days_left * litres_a_day } else { index };
        let mut meter = Self {
            key,
            litres_a_day,
            base_l,
            reverse_base_l: nature.between(0, 30),
            first_hour,
            hour: start.div_euclid(HOUR) - HOURS as i64,
            all_l: 0,
            reverse_l: 0,
            deltas: [0; HOURS],
            mounted: None,
            day: i64::MIN,
            drawn: [0; HOURS + 1],
            // A dripping cistern stays for weeks before somebody minds.
            leak: chance(50, 120, 180_000, (6, 30 * 24)),
            burst: chance(51, 1000, 60_000, (1, 4)),
            backflow: chance(52, 700, 60_000, (1, 3)),
            // Six years is what the law lets a meter live.
            swap: chance(53, 6 * 365, 1_000_000, (1, 1)),
            next_change: 0,
            pressure_kpa: nature.between(220, 420),
            incidents: Vec::new(),
        };
        meter.mounted = meter.mounted_by(meter.hour);
        (meter.all_l, meter.reverse_l) = meter.counted_until(meter.hour);
        meter.advance(start);
        meter.incidents.clear();
        meter.next_change = meter.change_after(meter.hour);
        meter
    }

    /// The last time that the meter was changed before an hour, and what all was then.
    fn mounted_by(&mut self, hour: i64) -> Option<(i64, i64)> {
        let swapped = self.swap.begun(self.first_hour, hour + 1).last()?.from;
        Some((swapped, self.counted_until(swapped).0))
    }

    /// Litres drawn and litres run back from the pilot's beginning to an hour's own.
    fn counted_until(&mut self, hour: i64) -> (i64, i64) {
        let (leak, burst, backflow) = (self.leak, self.burst, self.backflow);
        let first = self.first_hour;
        let days = local_day(hour * HOUR) - local_day(first * HOUR);
        let (mut all, mut back) = (days * self.litres_a_day + self.drawn_until(hour), 0);
        for leak in leak.begun(first, hour) {
            all += leak.before(hour) * leak_l_h(leak.rng());
        }
        for burst in burst.begun(first, hour) {
            all += burst.before(hour) * burst_l_h(burst.rng());
            for shut in burst.to..(burst.to + SHUT_H).min(hour) {
                all -= self.draws(shut) + self.leaks_in(shut);
            }
        }
        for spell in backflow.begun(first, hour) {
            back += spell.before(hour) * back_l_h(spell.rng());
            for empty in spell.from..spell.to.min(hour) {
                if !self.troubles(empty).shut {
                    all -= self.draws(empty) + self.leaks_in(empty);
                }
            }
        }
        (all, back)
    }

    /// Litres from the beginning of an hour's day to its own beginning. A day's are its meter's
    /// daily litres exactly, spread by the curve and by chance: nobody at home, or a bath.
    fn drawn_until(&mut self, hour: i64) -> i64 {
        let day = local_day(hour * HOUR);
        if day != self.day {
            let [seed, imei] = self.key;
            let mut rng = Rng::new(Use::Device, &[seed, imei, day.unsigned_abs()]);
            let curve = if is_weekend(hour * HOUR) { &WEEKEND } else { &WEEKDAY };
            let mut sum = 0;
            let mut weights = [0; HOURS + 1];
            for (share, weight) in curve.iter().zip(weights.iter_mut().skip(1)) {
                // At night most households draw nothing at all: an hour without flow every day is
                // what tells them from a leak.
                let asleep = *share < 10 && rng.chance(800_000);
                sum += if asleep { 0 } else { share * rng.between(0, 200) };
                *weight = sum;
            }
            self.drawn = weights.map(|weight| self.litres_a_day * weight / sum.max(1));
            self.day = day;
        }
        self.drawn.get(local_hour(hour * HOUR)).copied().unwrap_or_default()
    }

    /// Litres the household would draw in an hour.
    fn draws(&mut self, hour: i64) -> i64 {
        let before = self.drawn_until(hour);
        self.drawn.get(local_hour(hour * HOUR) + 1).copied().unwrap_or(before) - before
    }

    fn leaks_in(&self, hour: i64) -> i64 {
        self.leak.at(hour).map_or(0, |leak| leak_l_h(leak.rng()))
    }

    fn troubles(&self, hour: i64) -> Troubles {
        let shut = (1..=SHUT_H)
            .filter_map(|ago| self.burst.at(hour - ago))
            .any(|burst| burst.to <= hour && hour < burst.to + SHUT_H);
        Troubles {
            leak_l: self.leaks_in(hour),
            burst_l: self.burst.at(hour).map_or(0, |burst| burst_l_h(burst.rng())),
            back_l: self.backflow.at(hour).map_or(0, |spell| back_l_h(spell.rng())),
            shut,
        }
    }

    /// What the running hour draws in all.
    fn this_hour(&mut self) -> i64 {
        let troubles = self.troubles(self.hour);
        // With the valve shut or the main empty nothing comes from the tap, or from the leak.
        let own = if troubles.shut || troubles.back_l > 0 {
            0
        } else {
            self.draws(self.hour) + troubles.leak_l
        };
        own + troubles.burst_l
    }

    /// When, after an hour began, something changes: always with a full hour, since a total must
    /// not fall when a leak is mended.
    fn change_after(&self, hour: i64) -> i64 {
        let shut = (0..=SHUT_H).filter_map(|ago| self.burst.at(hour - ago)).map(|b| b.to + SHUT_H);
        [&self.leak, &self.burst, &self.backflow, &self.swap]
            .into_iter()
            .map(|chance| chance.change_after(hour))
            .chain(shut)
            .filter(|at| *at > hour)
            .fold(i64::MAX, i64::min)
            .saturating_mul(HOUR)
    }

    /// What the register shows when all is so much.
    fn register(&self, all_l: i64) -> i64 {
        let since = match self.mounted {
            Some((_, then)) => all_l - then,
            None => self.base_l + all_l,
        };
        since.rem_euclid(WATER_MODULUS_L)
    }

    fn advance(&mut self, now: i64) {
        while self.hour < now.div_euclid(HOUR) {
            let drawn = self.this_hour();
            let before = self.register(self.all_l);
            self.all_l += drawn;
            self.reverse_l += self.troubles(self.hour).back_l;
            if self.register(self.all_l) < before {
                self.incidents.push(Incident::MeterRolledOver);
            }
            self.deltas.rotate_left(1);
            if let Some(last) = self.deltas.last_mut() {
                *last = i32::try_from(drawn).unwrap_or(i32::MAX);
            }
            self.hour += 1;
            if self.swap.at(self.hour).is_some_and(|swap| swap.from == self.hour) {
                self.mounted = Some((self.hour, self.all_l));
                self.incidents.push(Incident::MeterSwapped);
            }
        }
    }

    /// Full hours that this very meter has seen, of the last 24.
    fn seen(&self) -> usize {
        let since = self.mounted.map_or(i64::MAX, |(hour, _)| self.hour - hour);
        usize::try_from(since).unwrap_or(HOURS).min(HOURS)
    }
}

/// A dripping tap to a running cistern.
fn leak_l_h(mut rng: Rng) -> i64 {
    rng.between(3, 20)
}

/// Above the meter's overload flow of 3,125 l/h, and below what it cannot measure.
fn burst_l_h(mut rng: Rng) -> i64 {
    rng.between(3250, 4500)
}

fn back_l_h(mut rng: Rng) -> i64 {
    rng.between(5, 60)
}

impl Model for Meter {
    fn next_event(&self) -> i64 {
        self.next_change
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        let hour = now.div_euclid(HOUR);
        self.advance(now);
        self.next_change = self.change_after(hour);
        let (was, is) = (self.troubles(hour - 1), self.troubles(hour));
        let begun = [
            (was.leak_l == 0 && is.leak_l > 0, Incident::Leak),
            (was.back_l == 0 && is.back_l > 0, Incident::Backflow),
            (was.burst_l == 0 && is.burst_l > 0, Incident::Burst),
        ];
        let before = self.incidents.len();
        self.incidents
            .extend(begun.into_iter().filter(|(begins, _)| *begins).map(|(_, what)| what));
        Some(if self.incidents.len() > before { Trigger::Alarm } else { Trigger::Event })
    }

    #[allow(clippy::cast_precision_loss)] // litres an hour, tenths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.advance(now);
        let into = now.rem_euclid(HOUR);
        let this_hour = self.this_hour();
        let Troubles { leak_l, burst_l, back_l, shut } = self.troubles(self.hour);
        let steady = if shut || back_l > 0 { 0 } else { leak_l } + burst_l;
        // Taps run in turns: half of the time the flow is that of the pipe's troubles alone.
        let taps_run = into / (5 * 60 * SECOND) % 2 == 1;
        let flow = steady - back_l + if taps_run { (this_hour - steady).max(0) * 2 } else { 0 };
        let pressure = match (back_l > 0, burst_l > 0) {
            (true, _) => 65,
            (_, true) => self.pressure_kpa / 3,
            _ => self.pressure_kpa - flow / 20,
        };
        let alarms = [(leak_l, LEAK), (burst_l, BURST), (back_l, BACKFLOW)];
        let seen = self.seen();
        // The history ends with the last full hour by the meter's clock, in whole seconds.
        let first_end = -(into / SECOND) - (seen as i64 - 1) * 3600;
        let all_l = self.all_l + this_hour * into / HOUR;
        Body::Water(Water {
            total_l: Some(self.register(all_l)),
            reverse_l: Some(self.reverse_base_l + self.reverse_l + back_l * into / HOUR),
            flow_l_h: Some(flow.clamp(-3000, 4600) as f64),
            pressure_kpa: Some(pressure + rng.noise(3.0).clamp(-10, 10)),
            temp_c: Some((outdoor_dc(now) / 2 + 75 + rng.noise(2.0)).max(2) as f64 / 10.0),
            valve: Some(if shut { VALVE_CLOSED } else { VALVE_OPEN }),
            alarms: alarms.iter().filter(|(l, _)| *l > 0).map(|(_, alarm)| *alarm).collect(),
            history_first_end_s: (seen > 0).then_some(first_end),
            history_interval_s: (seen > 0).then_some(3600),
            history_delta_l: self.deltas.iter().skip(HOURS - seen).copied().collect(),
        })
    }

    fn natural_period(&self) -> i64 {
        DAY
    }

    fn incident(&mut self) -> Option<Incident> {
        self.incidents.pop()
    }
}

#[cfg(test)]
mod tests;
