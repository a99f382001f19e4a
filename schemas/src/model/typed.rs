//! Models that speak the schema's messages, each in units of its own.

use crate::pb;
use crate::reading::{Body, Common, Elevator, Parking, Smoke, StreetLight, Water};

/// How a whole number on the wire becomes a canonical one: `(wire - offset) * mul / div`. Factors
/// are kept apart so that tenths are divided by ten exactly: 219 becomes 21.9, whose shortest text
/// is "21.9".
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    offset: f64,
    mul: f64,
    div: f64,
}

impl Scale {
    pub(super) const ONE: Self = Self::new(0.0, 1.0, 1.0);
    pub(super) const TENTHS: Self = Self::new(0.0, 1.0, 10.0);
    const THOUSANDTHS: Self = Self::new(0.0, 1.0, 1000.0);

    pub(super) const fn new(offset: f64, mul: f64, div: f64) -> Self {
        Self { offset, mul, div }
    }

    pub(super) fn read(self, wire: impl Into<f64>) -> f64 {
        // Adding zero turns a negative zero into zero.
        (wire.into() - self.offset) * self.mul / self.div + 0.0
    }

    /// The nearest wire number; past the ends of its type, the end.
    #[allow(clippy::cast_possible_truncation)] // a float's cast ends at the type's ends
    fn write<T: TryFrom<i64> + Bounded>(self, value: f64) -> T {
        let wire = (value * self.div / self.mul + self.offset).round() as i64;
        clamp(wire)
    }
}

/// The ends of a wire type.
trait Bounded {
    const LOW: Self;
    const HIGH: Self;
}

macro_rules! bounded {
    ($($ty:ty)+) => { $(impl Bounded for $ty { const LOW: Self = <$ty>::MIN; const HIGH: Self = <$ty>::MAX; })+ };
}
bounded!(i32 u32 u64 i64);

fn clamp<T: TryFrom<i64> + Bounded>(value: i64) -> T {
    T::try_from(value).unwrap_or(if value < 0 { T::LOW } else { T::HIGH })
}

/// How a model says the received power.
#[derive(Debug, Clone, Copy)]
enum Rsrp {
    /// In this scale.
    Scaled(Scale),
    /// In dBm with the sign dropped: 114 is −114. Firmware that sends the sign means the same.
    SignDropped,
}

/// The units a model's typed numbers are in.
#[derive(Debug)]
pub(super) struct Units {
    nrsrp: Rsrp,
    nrsrq: Scale,
    sinr: Scale,
    /// What the model calls coverage level 0 (LwM2M 4/0/13 counts from 1).
    ce_level_zero: i64,
    battery_mv: i64,
    temp: Scale,
    dim: Scale,
    energy_wh: i64,
    tilt: Scale,
    register_l: i64,
    flow: Scale,
}

impl Units {
    /// As the fields' names say.
    pub(super) const CANONICAL: Self = Self {
        nrsrp: Rsrp::Scaled(Scale::ONE),
        nrsrq: Scale::ONE,
        sinr: Scale::ONE,
        ce_level_zero: 0,
        battery_mv: 1,
        temp: Scale::TENTHS,
        dim: Scale::ONE,
        energy_wh: 1,
        tilt: Scale::TENTHS,
        register_l: 1,
        flow: Scale::ONE,
    };
    /// Received power without its sign, whole degrees plus 100, hundredths of a volt.
    pub(super) const OFFSET_HUNDREDTHS: Self = Self {
        nrsrp: Rsrp::SignDropped,
        battery_mv: 10,
        temp: Scale::new(100.0, 1.0, 1.0),
        ..Self::CANONICAL
    };
    /// Radio figures in tenths, coverage levels from 1.
    pub(super) const TENTHS_RADIO: Self = Self {
        nrsrp: Rsrp::Scaled(Scale::TENTHS),
        nrsrq: Scale::TENTHS,
        sinr: Scale::TENTHS,
        ce_level_zero: 1,
        ..Self::CANONICAL
    };
    /// Energy in kWh, light in thousandths of one, tilt in milliradian.
    pub(super) const KILOWATT_HOUR_LAMP: Self = Self {
        dim: Scale::TENTHS,
        energy_wh: 1000,
        tilt: Scale::new(0.0, 180.0, 1000.0 * std::f64::consts::PI),
        ..Self::CANONICAL
    };
    /// Registers in hundredths of a m³, flow in millionths of a m³/s (3.6 L/h).
    pub(super) const CUBIC_METRE_METER: Self =
        Self { register_l: 10, flow: Scale::new(0.0, 18.0, 5.0), ..Self::CANONICAL };

    fn read_rsrp(&self, wire: i32) -> f64 {
        match self.nrsrp {
            Rsrp::Scaled(scale) => scale.read(wire),
            Rsrp::SignDropped => 0.0 - f64::from(wire).abs(),
        }
    }

    fn write_rsrp(&self, value: f64) -> i32 {
        match self.nrsrp {
            Rsrp::Scaled(scale) => scale.write(value),
            Rsrp::SignDropped => Scale::ONE.write(value.abs()),
        }
    }
}

/// A count in steps of `step`; past the end of an `i64`, its end.
fn read_steps(wire: impl TryInto<i64>, step: i64) -> i64 {
    wire.try_into().unwrap_or(i64::MAX).saturating_mul(step)
}

fn write_steps<T: TryFrom<i64> + Bounded>(value: i64, step: i64) -> T {
    if value == i64::MAX {
        return T::HIGH;
    }
    // To the nearest step.
    clamp(value.saturating_add(value.signum() * (step / 2)) / step)
}

/// An enum's number; UNSPECIFIED is absent.
fn read_enum(wire: i32) -> Option<i32> {
    (wire != 0).then_some(wire)
}

fn read_list(wire: &[i32]) -> Vec<i32> {
    let mut list: Vec<i32> = wire.iter().copied().filter(|n| *n != 0).collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn int(wire: Option<u32>) -> Option<i64> {
    wire.map(i64::from)
}

fn wire_int<T: TryFrom<i64> + Bounded>(value: Option<i64>) -> Option<T> {
    value.map(clamp)
}

pub(super) fn common_from_wire(units: &Units, reading: &pb::Reading) -> Common {
    let mut common = Common {
        trigger: read_enum(reading.trigger),
        clock: read_enum(reading.clock),
        model_id: (reading.model_id != 0).then_some(i64::from(reading.model_id)),
        ..Common::default()
    };
    if let Some(radio) = &reading.radio {
        common.nrsrp_dbm = radio.nrsrp_dbm.map(|v| units.read_rsrp(v));
        common.nrsrq_db = radio.nrsrq_db.map(|v| units.nrsrq.read(v));
        common.sinr_db = radio.sinr_db.map(|v| units.sinr.read(v));
        common.ce_level = radio.ce_level.map(|v| i64::from(v) - units.ce_level_zero);
        common.cell_id = int(radio.cell_id);
        common.tx_power_dbm = radio.tx_power_dbm.map(f64::from);
        common.pci = int(radio.pci);
        common.rssi_dbm = radio.rssi_dbm.map(f64::from);
    }
    if let Some(power) = &reading.power {
        common.battery_pct = power.battery_pct.map(f64::from);
        common.battery_mv = power.battery_mv.map(|v| read_steps(v, units.battery_mv));
    }
    common
}

pub(super) fn parking_from_wire(units: &Units, wire: &pb::Parking) -> Body {
    Body::Parking(Parking {
        state: read_enum(wire.state),
        state_age_s: int(wire.state_age_s),
        mag_x_raw: wire.mag_x_raw.map(i64::from),
        mag_y_raw: wire.mag_y_raw.map(i64::from),
        mag_z_raw: wire.mag_z_raw.map(i64::from),
        radar_cm: int(wire.radar_cm),
        change_count: int(wire.change_count),
        temp_c: wire.temp_dc.map(|v| units.temp.read(v)),
        covered: Some(wire.covered),
        tamper: Some(wire.tamper),
        fault: Some(wire.fault),
    })
}

pub(super) fn street_light_from_wire(units: &Units, wire: &pb::StreetLight) -> Body {
    Body::StreetLight(StreetLight {
        dim_command_pct: wire.dim_command_pct.map(|v| units.dim.read(v)),
        dim_pct: wire.dim_pct.map(|v| units.dim.read(v)),
        voltage_v: wire.voltage_dv.map(|v| Scale::TENTHS.read(v)),
        current_ma: int(wire.current_ma),
        power_w: wire.power_dw.map(|v| Scale::TENTHS.read(v)),
        power_factor: wire.power_factor_milli.map(|v| Scale::THOUSANDTHS.read(v)),
        energy_wh: wire.energy_wh.map(|v| read_steps(v, units.energy_wh)),
        on_hours: int(wire.on_hours),
        lux: wire.lux.map(f64::from),
        gear_temp_c: wire.gear_temp_dc.map(|v| units.temp.read(v)),
        tilt_deg: wire.tilt_ddeg.map(|v| units.tilt.read(v)),
        faults: read_list(&wire.faults),
    })
}

pub(super) fn smoke_from_wire(units: &Units, wire: &pb::Smoke) -> Body {
    Body::Smoke(Smoke {
        state: read_enum(wire.state),
        obscuration_db_m: wire.obscuration_mdb_m.map(|v| Scale::THOUSANDTHS.read(v)),
        temp_c: wire.temp_dc.map(|v| units.temp.read(v)),
        contamination_pct: wire.contamination_pct.map(f64::from),
        removed: Some(wire.removed),
        low_battery: Some(wire.low_battery),
        self_test: read_enum(wire.self_test),
        alarm_count: int(wire.alarm_count),
    })
}

pub(super) fn elevator_from_wire(units: &Units, wire: &pb::Elevator) -> Body {
    Body::Elevator(Elevator {
        mode: read_enum(wire.mode),
        direction: read_enum(wire.direction),
        floor: wire.floor.map(i64::from),
        door: read_enum(wire.door),
        speed_m_s: wire.speed_mm_s.map(|v| Scale::THOUSANDTHS.read(v)),
        load_pct: wire.load_pct.map(f64::from),
        occupied: wire.occupied,
        door_zone: wire.door_zone,
        vibration_mg: int(wire.vibration_mg),
        trips: int(wire.trips),
        door_cycles: int(wire.door_cycles),
        run_hours: int(wire.run_hours),
        faults: read_list(&wire.faults),
        motor_temp_c: wire.motor_temp_dc.map(|v| units.temp.read(v)),
        entrapment: wire.entrapment,
    })
}

pub(super) fn water_from_wire(units: &Units, wire: &pb::Water) -> Body {
    let history = wire.history.as_ref();
    Body::Water(Water {
        total_l: wire.total_l.map(|v| read_steps(v, units.register_l)),
        reverse_l: wire.reverse_l.map(|v| read_steps(v, units.register_l)),
        flow_l_h: wire.flow_l_h.map(|v| units.flow.read(v)),
        pressure_kpa: int(wire.pressure_kpa),
        temp_c: wire.temp_dc.map(|v| units.temp.read(v)),
        valve: read_enum(wire.valve),
        alarms: read_list(&wire.alarms),
        history_first_end_s: history.map(|h| h.first_end_delta_s),
        history_interval_s: history.map(|h| i64::from(h.interval_s)),
        history_delta_l: history.map_or_else(Vec::new, |h| h.delta_l.clone()),
    })
}

/// The wire reading of a model with these units.
pub(super) fn to_wire(units: &Units, id: u32, common: &Common, body: &Body) -> pb::Reading {
    pb::Reading { body: body_to_wire(units, body), ..common_to_wire(units, id, common) }
}

/// The wire reading without its body.
pub(super) fn common_to_wire(units: &Units, id: u32, common: &Common) -> pb::Reading {
    let radio = pb::Radio {
        nrsrp_dbm: common.nrsrp_dbm.map(|v| units.write_rsrp(v)),
        nrsrq_db: common.nrsrq_db.map(|v| units.nrsrq.write(v)),
        sinr_db: common.sinr_db.map(|v| units.sinr.write(v)),
        ce_level: common.ce_level.map(|v| clamp(v.saturating_add(units.ce_level_zero))),
        cell_id: wire_int(common.cell_id),
        tx_power_dbm: common.tx_power_dbm.map(|v| Scale::ONE.write(v)),
        pci: wire_int(common.pci),
        rssi_dbm: common.rssi_dbm.map(|v| Scale::ONE.write(v)),
    };
    let power = pb::Power {
        battery_pct: common.battery_pct.map(|v| Scale::ONE.write(v)),
        battery_mv: common.battery_mv.map(|v| write_steps(v, units.battery_mv)),
    };
    pb::Reading {
        trigger: common.trigger.unwrap_or(0),
        clock: common.clock.unwrap_or(0),
        radio: (radio != pb::Radio::default()).then_some(radio),
        power: (power != pb::Power::default()).then_some(power),
        model_id: id,
        ..pb::Reading::default()
    }
}

fn body_to_wire(units: &Units, body: &Body) -> Option<pb::reading::Body> {
    Some(match body {
        Body::Parking(b) => pb::reading::Body::Parking(pb::Parking {
            state: b.state.unwrap_or(0),
            state_age_s: wire_int(b.state_age_s),
            mag_x_raw: wire_int(b.mag_x_raw),
            mag_y_raw: wire_int(b.mag_y_raw),
            mag_z_raw: wire_int(b.mag_z_raw),
            radar_cm: wire_int(b.radar_cm),
            change_count: wire_int(b.change_count),
            temp_dc: b.temp_c.map(|v| units.temp.write(v)),
            covered: b.covered.unwrap_or(false),
            tamper: b.tamper.unwrap_or(false),
            fault: b.fault.unwrap_or(false),
        }),
        Body::StreetLight(b) => pb::reading::Body::StreetLight(pb::StreetLight {
            dim_command_pct: b.dim_command_pct.map(|v| units.dim.write(v)),
            dim_pct: b.dim_pct.map(|v| units.dim.write(v)),
            voltage_dv: b.voltage_v.map(|v| Scale::TENTHS.write(v)),
            current_ma: wire_int(b.current_ma),
            power_dw: b.power_w.map(|v| Scale::TENTHS.write(v)),
            power_factor_milli: b.power_factor.map(|v| Scale::THOUSANDTHS.write(v)),
            energy_wh: b.energy_wh.map(|v| write_steps(v, units.energy_wh)),
            on_hours: wire_int(b.on_hours),
            lux: b.lux.map(|v| Scale::ONE.write(v)),
            gear_temp_dc: b.gear_temp_c.map(|v| units.temp.write(v)),
            tilt_ddeg: b.tilt_deg.map(|v| units.tilt.write(v)),
            faults: b.faults.clone(),
        }),
        Body::Smoke(b) => pb::reading::Body::Smoke(pb::Smoke {
            state: b.state.unwrap_or(0),
            obscuration_mdb_m: b.obscuration_db_m.map(|v| Scale::THOUSANDTHS.write(v)),
            temp_dc: b.temp_c.map(|v| units.temp.write(v)),
            contamination_pct: b.contamination_pct.map(|v| Scale::ONE.write(v)),
            removed: b.removed.unwrap_or(false),
            low_battery: b.low_battery.unwrap_or(false),
            self_test: b.self_test.unwrap_or(0),
            alarm_count: wire_int(b.alarm_count),
        }),
        Body::Elevator(b) => pb::reading::Body::Elevator(pb::Elevator {
            mode: b.mode.unwrap_or(0),
            direction: b.direction.unwrap_or(0),
            floor: wire_int(b.floor),
            door: b.door.unwrap_or(0),
            speed_mm_s: b.speed_m_s.map(|v| Scale::THOUSANDTHS.write(v)),
            load_pct: b.load_pct.map(|v| Scale::ONE.write(v)),
            occupied: b.occupied,
            door_zone: b.door_zone,
            vibration_mg: wire_int(b.vibration_mg),
            trips: wire_int(b.trips),
            door_cycles: wire_int(b.door_cycles),
            run_hours: wire_int(b.run_hours),
            faults: b.faults.clone(),
            motor_temp_dc: b.motor_temp_c.map(|v| units.temp.write(v)),
            entrapment: b.entrapment,
        }),
        Body::Water(b) => pb::reading::Body::Water(pb::Water {
            total_l: b.total_l.map(|v| write_steps(v, units.register_l)),
            reverse_l: b.reverse_l.map(|v| write_steps(v, units.register_l)),
            flow_l_h: b.flow_l_h.map(|v| units.flow.write(v)),
            pressure_kpa: wire_int(b.pressure_kpa),
            temp_dc: b.temp_c.map(|v| units.temp.write(v)),
            valve: b.valve.unwrap_or(0),
            alarms: b.alarms.clone(),
            history: history_to_wire(b),
        }),
        Body::StationStatus(_) => return None,
    })
}

fn history_to_wire(water: &Water) -> Option<pb::History> {
    let absent = water.history_first_end_s.is_none()
        && water.history_interval_s.is_none()
        && water.history_delta_l.is_empty();
    (!absent).then(|| pb::History {
        first_end_delta_s: water.history_first_end_s.unwrap_or(0),
        interval_s: wire_int(water.history_interval_s).unwrap_or(0),
        delta_l: water.history_delta_l.clone(),
    })
}
