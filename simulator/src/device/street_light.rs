//! A street light: lit from sunset to sunrise, dimmed to half from eleven to five.
//!
//! Every switching is reported when it happens. Power follows the dimming and the lamp's age (its
//! driver makes up for what the diodes lose), the control gear warms up and cools down, and the
//! daylight sensor sees the sun and what is left of the lamp's own light. Lamps stay dark until
//! somebody comes with a ladder, relays stick and burn by day, and cars hit poles.
//!
//! Energy and hours are no sums kept while it runs but the integral of all that since the pilot
//! began, worked out at a moment: so a later run counts on from an earlier one, to the watt-hour.

use loushan_schemas::reading::{Body, StreetLight};

use super::spell::Chance;
use super::{Model, NEVER, Trigger};
use crate::city::{
    DAY, HOUR, MINUTE, dark_before, day_start, in_service, local_day, outdoor_dc, sun,
};
use crate::faults::Incident;
use crate::seed::Rng;

const FAULT_LAMP: i32 = 1;

/// Dimming between eleven at night and five in the morning, in percent.
const NIGHT_DIM_PCT: i64 = 50;
const NIGHT_FROM: i64 = 23 * HOUR;
const NIGHT_TO: i64 = 5 * HOUR;
const NIGHT: i64 = DAY - NIGHT_FROM + NIGHT_TO;
/// How long the control gear takes to its working temperature.
const WARM_UP: i64 = 30 * MINUTE;
/// The controller's own draw, lit or not.
const STANDBY_DW: i64 = 5;
/// A new lamp is driven at so much of its rated power, a lamp at the end of its life at all of it.
const NEW_PERMILLE: i64 = 880;
/// Hours at full load after which a lamp is at the end of its life.
const LIFE_H: i64 = 50_000;

/// A lamp on its pole.
#[derive(Debug)]
pub(super) struct Lamp {
    /// What it is told, and what it does.
    command_pct: i64,
    dim_pct: i64,
    burning: bool,
    failed: bool,
    /// How far a car has bent the pole.
    bent_ddeg: i64,
    /// When the relay stuck that was told of last: it burns on several days.
    told: i64,
    next_change: i64,
    switched: i64,
    /// Before the pilot: lit, and at full load.
    lit_before: i64,
    load_before: i64,
    rated_w: i64,
    tilt_ddeg: i64,
    /// Poles see dusk at slightly different times: their own part of the switching.
    shade: i64,
    failure: Chance,
    sticking: Chance,
    crash: Chance,
    incident: Option<Incident>,
}

/// How long a lamp was lit, and that weighed with its dimming: in ms and ms of full load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Burnt {
    lit: i64,
    load: i64,
}

impl Lamp {
    pub(super) fn new(start: i64, key: [u64; 2], nature: &mut Rng) -> Self {
        let chance =
            |what, span, per_million, lasts| Chance::of(key, what, span, per_million, lasts);
        let lit_before = nature.between(100, 20_000) * HOUR;
        // Old lamps fail three times as often as new ones.
        let wear = u32::try_from(lit_before / (10_000 * HOUR)).unwrap_or(0) + 1;
        let mut lamp = Self {
            command_pct: 0,
            dim_pct: 0,
            burning: false,
            failed: false,
            bent_ddeg: 0,
            told: NEVER,
            next_change: NEVER,
            switched: start - HOUR,
            lit_before,
            load_before: lit_before * 3 / 4,
            rated_w: *[60, 90, 120, 150].get(nature.below(4) as usize).unwrap_or(&90),
            tilt_ddeg: nature.between(0, 30),
            shade: nature.between(0, 8) * MINUTE,
            failure: chance(40, 900 * DAY, 120_000 * wear, (DAY, 12 * DAY)),
            sticking: chance(41, 500 * DAY, 60_000, (6 * HOUR, 6 * DAY)),
            crash: chance(42, 1800 * DAY, 60_000, (DAY, 20 * DAY)),
            incident: None,
        };
        lamp.look(start);
        lamp.incident = None;
        lamp
    }

    /// A day's switching times, in order, and the dimming from each on.
    fn schedule(&self, day: i64) -> [(i64, i64); 4] {
        let (rise, set) = sun(day);
        let midnight = day_start(day);
        [
            (midnight + NIGHT_TO, 100),
            (rise - self.shade, 0),
            (set + self.shade, 100),
            (midnight + NIGHT_FROM, NIGHT_DIM_PCT),
        ]
    }

    /// What the schedule says at a moment, and when it changes next.
    fn scheduled(&self, now: i64) -> (i64, i64) {
        let today = local_day(now);
        let (mut dim, mut next) = (NIGHT_DIM_PCT, now + DAY);
        for (at, pct) in [today, today + 1].into_iter().flat_map(|day| self.schedule(day)) {
            if at > now {
                next = at;
                break;
            }
            dim = pct;
        }
        (dim, next)
    }

    /// What the schedule alone has burnt from the pilot's beginning to a moment.
    fn schedule_burnt(&self, now: i64) -> Burnt {
        let today = local_day(now);
        let (days, dark) = dark_before(today);
        let lit = dark - 2 * self.shade * days;
        let mut burnt = Burnt { lit, load: lit - days * NIGHT * (100 - NIGHT_DIM_PCT) / 100 };
        if in_service(now) == 0 {
            return burnt;
        }
        let mut from = (day_start(today), NIGHT_DIM_PCT);
        for (at, pct) in self.schedule(today).into_iter().chain([(NEVER, 0)]) {
            let passed = (at.min(now) - from.0).max(0);
            burnt.lit += if from.1 > 0 { passed } else { 0 };
            burnt.load += passed * from.1 / 100;
            from = (at, pct);
        }
        burnt
    }

    /// All it has burnt: dark lamps left out, stuck relays added.
    fn burnt(&self, now: i64) -> Burnt {
        let mut burnt = self.schedule_burnt(now);
        burnt.lit += self.lit_before;
        burnt.load += self.load_before;
        let pilot = now - in_service(now);
        let within = |from: i64, to: i64| {
            let (a, b) = (self.schedule_burnt(from), self.schedule_burnt(to.min(now)));
            Burnt { lit: b.lit - a.lit, load: b.load - a.load }
        };
        for dark in self.failure.begun(pilot, now) {
            let missed = within(dark.from, dark.to);
            burnt.lit -= missed.lit;
            burnt.load -= missed.load;
        }
        for stuck in self.sticking.begun(pilot, now) {
            let scheduled = within(stuck.from, stuck.to).lit;
            burnt.lit += stuck.before(now) - scheduled;
            burnt.load += stuck.before(now) - scheduled;
        }
        burnt
    }

    /// What the driver makes of rated power after so much load, in thousandths.
    fn drive_permille(load: i64) -> i64 {
        (NEW_PERMILLE + (1000 - NEW_PERMILLE) * (load / HOUR) / LIFE_H).min(1000)
    }

    /// Energy in Wh: the integral of power, whose drive grows in a straight line with the load.
    const fn energy_wh(&self, now: i64, load: i64) -> i64 {
        // In minutes: fine enough for no step to show, and their squares fit.
        let (minutes, life) = (load / MINUTE, LIFE_H * 60);
        let young = if minutes < life { minutes } else { life };
        let driven = NEW_PERMILLE * young
            + (1000 - NEW_PERMILLE) * young * young / (2 * life)
            + (minutes - young) * 1000;
        driven * self.rated_w / 60_000 + in_service(now) / MINUTE * STANDBY_DW / 600
    }

    /// Takes on what the moment has; whether that is something new.
    fn look(&mut self, now: i64) -> bool {
        let before = (self.command_pct, self.failed, self.burning, self.bent_ddeg);
        let (command, switches) = self.scheduled(now);
        self.command_pct = command;
        self.failed = self.failure.at(now).is_some();
        self.bent_ddeg = self.crash.at(now).map_or(0, |crash| crash.rng().between(160, 450));
        let stuck = self.sticking.at(now).filter(|_| !self.failed && command == 0);
        self.burning = stuck.is_some();
        let was_lit = self.dim_pct > 0;
        self.dim_pct = match (self.failed, self.burning) {
            (true, _) => 0,
            (_, true) => 100,
            _ => command,
        };
        if was_lit != (self.dim_pct > 0) {
            self.switched = now;
        }
        let chances = [&self.failure, &self.sticking, &self.crash];
        self.next_change = chances.iter().map(|c| c.change_after(now)).fold(switches, i64::min);
        let (_, failed, _, bent_ddeg) = before;
        let burns_anew = stuck.filter(|stuck| stuck.from != self.told);
        if self.failed && !failed {
            self.incident = Some(Incident::LampFailed);
        } else if let Some(stuck) = burns_anew {
            self.told = stuck.from;
            self.incident = Some(Incident::DayBurner);
        } else if self.bent_ddeg > 0 && bent_ddeg == 0 {
            self.incident = Some(Incident::PoleHit);
        }
        before != (self.command_pct, self.failed, self.burning, self.bent_ddeg)
    }

    const fn power_dw(&self, drive_permille: i64) -> i64 {
        self.rated_w * self.dim_pct * drive_permille / 10_000 + STANDBY_DW
    }

    /// Daylight in lux: a parabola over the day, and by night what the lamp throws back, which grows
    /// weaker with its age.
    fn lux(&self, now: i64, load: i64, rng: &mut Rng) -> i64 {
        let (rise, set) = sun(local_day(now));
        let worn = (load / HOUR).min(LIFE_H) * 30 / LIFE_H;
        let own = rng.between(60, 120) * self.dim_pct * (100 - worn) / 100_000;
        if now <= rise || now >= set {
            return own + rng.between(0, 1);
        }
        let (passed, left) = ((now - rise) / MINUTE, (set - now) / MINUTE);
        let half = (set - rise) / MINUTE / 2;
        12 + own + 60_000 * passed * left / (half * half).max(1) * rng.between(60, 100) / 100
    }
}

impl Model for Lamp {
    fn next_event(&self) -> i64 {
        self.next_change
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        self.look(now).then_some(Trigger::Event)
    }

    #[allow(clippy::cast_precision_loss)] // tenths and percent
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        let Burnt { lit: lit_ms, load } = self.burnt(now);
        let lit = self.dim_pct > 0;
        let voltage_dv = 2300 + rng.noise(25.0).clamp(-120, 120);
        let noise = if lit { rng.between(-4, 4) } else { 0 };
        let power_dw = self.power_dw(Self::drive_permille(load)) + noise;
        let worn = (load / HOUR).min(LIFE_H) * 30 / LIFE_H;
        // Capacitors dry out: an old driver's power factor is three hundredths lower.
        let factor_milli = if lit { rng.between(945, 985) - worn } else { rng.between(400, 520) };
        let warmth = (now - self.switched).clamp(0, WARM_UP) * 280 / WARM_UP;
        let gear_dc = outdoor_dc(now)
            + if lit { warmth * self.dim_pct.max(60) / 100 } else { (280 - warmth) * 6 / 10 }
            + rng.noise(4.0);
        let tilt = self.tilt_ddeg + self.bent_ddeg;
        Body::StreetLight(StreetLight {
            dim_command_pct: Some(self.command_pct as f64),
            // A stuck relay is not known to the controller: it says what it switched.
            dim_pct: Some(if self.burning { 0 } else { self.dim_pct } as f64),
            voltage_v: Some(voltage_dv as f64 / 10.0),
            // P / (U cos φ), in mA from dW, dV and thousandths.
            current_ma: Some(power_dw * 1_000_000 / (voltage_dv * factor_milli)),
            power_w: Some(power_dw as f64 / 10.0),
            power_factor: Some(factor_milli as f64 / 1000.0),
            energy_wh: Some(self.energy_wh(now, load)),
            on_hours: Some(lit_ms / HOUR),
            lux: Some(self.lux(now, load, rng) as f64),
            gear_temp_c: Some(gear_dc as f64 / 10.0),
            tilt_deg: Some((tilt + rng.between(0, 2)) as f64 / 10.0),
            faults: if self.failed { vec![FAULT_LAMP] } else { Vec::new() },
        })
    }

    fn natural_period(&self) -> i64 {
        if self.dim_pct > 0 { 15 * MINUTE } else { HOUR }
    }

    fn incident(&mut self) -> Option<Incident> {
        self.incident.take()
    }
}

#[cfg(test)]
mod tests;
