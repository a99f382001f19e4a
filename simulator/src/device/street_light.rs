//! A street light: lit from sunset to sunrise, dimmed to half from eleven to five.
//!
//! Every switching is reported when it happens. Power follows the dimming, energy and hours are its
//! integral, the control gear warms up and cools down, and the daylight sensor sees the sun.

use loushan_schemas::reading::{Body, StreetLight};

use super::{Model, Trigger};
use crate::city::{DAY, HOUR, MINUTE, day_start, in_service, local_day, outdoor_dc, sun};
use crate::seed::Rng;

/// Dimming between eleven at night and five in the morning, in percent.
const NIGHT_DIM_PCT: i64 = 50;

/// How long the control gear takes to its working temperature.
const WARM_UP: i64 = 30 * MINUTE;

/// A lamp on its pole.
#[derive(Debug)]
pub(super) struct Lamp {
    dim_pct: i64,
    next_switch: i64,
    switched: i64,
    /// How far energy and hours are counted.
    counted: i64,
    energy_w_ms: i64,
    lit_ms: i64,
    rated_w: i64,
    tilt_ddeg: i64,
    /// Poles see dusk at slightly different times: their own part of the switching.
    shade: i64,
}

/// A day's switching times, in order, and the dimming from each on.
fn schedule(day: i64, shade: i64) -> [(i64, i64); 4] {
    let (rise, set) = sun(day);
    let midnight = day_start(day);
    [
        (midnight + 5 * HOUR, 100),
        (rise - shade, 0),
        (set + shade, 100),
        (midnight + 23 * HOUR, NIGHT_DIM_PCT),
    ]
}

impl Lamp {
    pub(super) fn new(start: i64, nature: &mut Rng) -> Self {
        // As if always lit before, so that a later run never begins below an earlier one.
        let lit_ms = nature.between(100, 20_000) * HOUR + in_service(start);
        let rated_w = *[60, 90, 120, 150].get(nature.below(4) as usize).unwrap_or(&90);
        let mut lamp = Self {
            dim_pct: 0,
            next_switch: 0,
            switched: start - HOUR,
            counted: start,
            energy_w_ms: lit_ms * (rated_w + 1),
            lit_ms,
            rated_w,
            tilt_ddeg: nature.between(0, 30),
            shade: nature.between(0, 8) * MINUTE,
        };
        lamp.plan(start);
        lamp
    }

    /// The dimming at `now`, and when it changes next.
    fn plan(&mut self, now: i64) {
        let today = local_day(now);
        let days = [today - 1, today, today + 1];
        let mut dim = NIGHT_DIM_PCT;
        self.next_switch = now + DAY;
        for (at, pct) in days.into_iter().flat_map(|day| schedule(day, self.shade)) {
            if at > now {
                self.next_switch = at;
                break;
            }
            dim = pct;
        }
        self.dim_pct = dim;
    }

    const fn power_dw(&self) -> i64 {
        // Half a watt of the controller's own, lit or not.
        self.rated_w * self.dim_pct / 10 + 5
    }

    fn count(&mut self, now: i64) {
        let passed = (now - self.counted).max(0);
        self.energy_w_ms += passed * self.power_dw() / 10;
        if self.dim_pct > 0 {
            self.lit_ms += passed;
        }
        self.counted = now.max(self.counted);
    }

    /// Daylight in lux: a parabola over the day, and what the lamp throws back by night.
    fn lux(&self, now: i64, rng: &mut Rng) -> i64 {
        let (rise, set) = sun(local_day(now));
        if now <= rise || now >= set {
            return rng.between(2, 12);
        }
        let (passed, left) = ((now - rise) / MINUTE, (set - now) / MINUTE);
        let half = (set - rise) / MINUTE / 2;
        12 + 60_000 * passed * left / (half * half).max(1) * rng.between(60, 100) / 100
    }
}

impl Model for Lamp {
    fn next_event(&self) -> i64 {
        self.next_switch
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        self.count(now);
        let before = self.dim_pct;
        self.plan(now);
        self.switched = now;
        (before != self.dim_pct).then_some(Trigger::Event)
    }

    #[allow(clippy::cast_precision_loss)] // tenths and percent
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.count(now);
        let lit = self.dim_pct > 0;
        let voltage_dv = 2300 + rng.noise(25.0).clamp(-120, 120);
        let power_dw = self.power_dw() + if lit { rng.between(-4, 4) } else { 0 };
        let factor_milli = if lit { rng.between(930, 985) } else { rng.between(400, 520) };
        let warmth = (now - self.switched).clamp(0, WARM_UP) * 280 / WARM_UP;
        let gear_dc = outdoor_dc(now) + if lit { warmth } else { 280 - warmth } + rng.noise(4.0);
        Body::StreetLight(StreetLight {
            dim_command_pct: Some(self.dim_pct as f64),
            dim_pct: Some(self.dim_pct as f64),
            voltage_v: Some(voltage_dv as f64 / 10.0),
            // P / (U cos φ), in mA from dW, dV and thousandths.
            current_ma: Some(power_dw * 1_000_000 / (voltage_dv * factor_milli)),
            power_w: Some(power_dw as f64 / 10.0),
            power_factor: Some(factor_milli as f64 / 1000.0),
            energy_wh: Some(self.energy_w_ms / HOUR),
            on_hours: Some(self.lit_ms / HOUR),
            lux: Some(self.lux(now, rng) as f64),
            gear_temp_c: Some(gear_dc as f64 / 10.0),
            tilt_deg: Some((self.tilt_ddeg + rng.between(0, 2)) as f64 / 10.0),
            faults: Vec::new(),
        })
    }

    fn natural_period(&self) -> i64 {
        if self.dim_pct > 0 { 15 * MINUTE } else { HOUR }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::seed::Use;

    fn light(lamp: &mut Lamp, now: i64, rng: &mut Rng) -> StreetLight {
        match lamp.sample(now, rng) {
            Body::StreetLight(light) => light,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lamps_in_zunyi_are_dark_at_noon_lit_after_sunset_and_dimmed_at_midnight() {
        let mut rng = Rng::new(Use::Device, &[1]);
        for day in [20_454, 20_600, 20_700] {
            let midnight = day_start(day);
            let noon = midnight + 12 * HOUR;
            let mut lamp = Lamp::new(noon, &mut rng.clone());
            let l = light(&mut lamp, noon, &mut rng);
            assert_eq!((l.dim_pct, l.dim_command_pct), (Some(0.0), Some(0.0)));
            assert!(l.lux.unwrap() > 10_000.0 && l.power_w.unwrap() < 1.0);
            let (rise, set) = sun(day + 1);
            let mut seen = Vec::new();
            let mut energy = l.energy_wh.unwrap();
            while lamp.next_event() < midnight + DAY + 14 * HOUR {
                let at = lamp.next_event();
                assert_eq!(lamp.event(at, &mut rng), Some(Trigger::Event));
                let l = light(&mut lamp, at, &mut rng);
                assert!(l.energy_wh.unwrap() >= energy);
                energy = l.energy_wh.unwrap();
                seen.push(l.dim_pct.unwrap());
            }
            assert_eq!(seen, [100.0, 50.0, 100.0, 0.0]);
            assert!(rise < set);
            let mut late = Lamp::new(midnight + 30 * MINUTE, &mut rng.clone());
            let l = light(&mut late, midnight + 30 * MINUTE, &mut rng);
            assert_eq!(l.dim_pct, Some(50.0));
            assert!(l.lux.unwrap() < 20.0 && l.power_w.unwrap() > 20.0);
        }
    }

    #[test]
    fn a_night_at_full_and_half_power_is_counted_as_energy() {
        let mut rng = Rng::new(Use::Device, &[1]);
        let noon = day_start(20_500) + 12 * HOUR;
        let mut lamp = Lamp::new(noon, &mut rng);
        let before = lamp.energy_w_ms / HOUR;
        while lamp.next_event() < noon + DAY {
            let at = lamp.next_event();
            lamp.event(at, &mut rng);
        }
        lamp.count(noon + DAY);
        let used = lamp.energy_w_ms / HOUR - before;
        // Six hours at half power and about five at full.
        let (low, high) = (lamp.rated_w * 6, lamp.rated_w * 12);
        assert!((low..high).contains(&used), "{used} Wh of {} W", lamp.rated_w);
    }
}
