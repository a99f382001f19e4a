//! The normalized reading: what a device said, in units that can be compared.
//!
//! Every struct below is declared through one table (see [`crate::field`]); ranges are those of the
//! design's table, in the units kept here (a tenth of a degree on the wire is a degree here).

use xxhash_rust::xxh3::Xxh3;

use crate::field::{EnumTable, Field, Value, WrongType, fields};
use crate::ids::Imei;
use crate::kind::Kind;
use crate::limits::WATER_MODULUS_L;
use crate::quality::{Quality, QualityReason};
use crate::time::{DeviceTime, ReceiveTime};

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $name:literal: $($number:literal $word:literal),+;)+) => {
        $($(#[$doc])* pub static $table: EnumTable =
            EnumTable { name: $name, values: &[$(($number, $word)),+] };)+
    };
}

tables! {
    /// Why a device reported.
    TRIGGER = "trigger": 1 "periodic", 2 "event", 3 "alarm", 4 "replay", 5 "command";
    /// What a device knows of its clock.
    CLOCK_STATE = "clock": 1 "synced", 2 "free_running", 3 "unset";
    /// Parking states.
    PARKING_STATE = "parking state": 1 "free", 2 "occupied", 3 "unknown";
    /// Street light faults.
    LIGHT_FAULT = "street light fault": 1 "lamp", 2 "gear", 3 "over_voltage", 4 "under_voltage",
        5 "over_current", 6 "leakage", 7 "communication", 8 "power_loss";
    /// Smoke detector states (GB 20517).
    SMOKE_STATE = "smoke state": 1 "normal", 2 "alarm", 3 "muted", 4 "fault", 5 "test", 6 "removed";
    /// Outcome of a smoke detector's self test.
    SELF_TEST = "self test": 1 "passed", 2 "failed";
    /// Elevator modes (BACnet Lift).
    ELEVATOR_MODE = "elevator mode": 1 "normal", 2 "homing", 3 "parked", 4 "attendant",
        5 "firefighter", 6 "emergency_power", 7 "inspection", 8 "cabinet_recall", 9 "earthquake",
        10 "out_of_service", 11 "occupant_evacuation";
    /// Elevator directions.
    ELEVATOR_DIRECTION = "elevator direction": 1 "stopped", 2 "up", 3 "down";
    /// Elevator door states (BACnet Lift).
    ELEVATOR_DOOR = "elevator door": 1 "closed", 2 "opening", 3 "open", 4 "closing",
        5 "safety_locked", 6 "limited_opened";
    /// Elevator faults (BACnet Lift).
    ELEVATOR_FAULT = "elevator fault": 1 "controller", 2 "drive_and_motor",
        3 "governor_and_safety_gear", 4 "shaft_device", 5 "power_supply", 6 "safety_interlock",
        7 "door_closing", 8 "door_opening", 9 "stopped_outside_landing_zone",
        10 "call_button_stuck", 11 "start_failure", 12 "controller_supply", 13 "self_test",
        14 "runtime_limit_exceeded", 15 "position_lost", 16 "drive_temperature_exceeded",
        17 "load_measurement";
    /// Water meter valve states.
    WATER_VALVE = "valve": 1 "open", 2 "closed", 3 "fault";
    /// Water meter alarms.
    WATER_ALARM = "water alarm": 1 "leak", 2 "burst", 3 "backflow", 4 "tamper", 5 "low_battery",
        6 "air_in_pipe", 7 "frost";
}

fields! {
    /// What every device reports beside its own matter.
    Common {
        /// Why it reported.
        trigger: one(TRIGGER);
        /// What it knows of its clock.
        clock: one(CLOCK_STATE);
        /// Vendor and model.
        model_id: int;
        /// Reference signal received power.
        nrsrp_dbm: float, hard -180.0..=-30.0, plausible -156.0..=-44.0;
        /// Reference signal received quality.
        nrsrq_db: float, hard -30.0..=10.0, plausible -20.0..=-3.0;
        /// Signal to interference and noise.
        sinr_db: float, hard -30.0..=50.0, plausible -20.0..=30.0;
        /// Coverage enhancement level.
        ce_level: int, hard 0..=2;
        /// E-UTRAN cell identity.
        cell_id: int, hard 0..=268_435_455;
        /// Transmit power.
        tx_power_dbm: float;
        /// Physical cell identity.
        pci: int, hard 0..=503;
        /// Charge left.
        battery_pct: float, hard 0..=100;
        /// Battery voltage.
        battery_mv: int, hard 0..=5000, plausible 2500..=3900;
        /// Received signal strength: all power in the band.
        rssi_dbm: float, hard -150..=0;
    }
}

fields! {
    /// A parking space.
    Parking {
        /// Free or occupied.
        state: one(PARKING_STATE);
        /// How long the state has held.
        state_age_s: int, hard 0..=31_536_000, plausible 0..=604_800;
        /// Magnetometer, raw counts.
        mag_x_raw: int;
        /// Magnetometer, raw counts.
        mag_y_raw: int;
        /// Magnetometer, raw counts.
        mag_z_raw: int;
        /// Distance to what stands above.
        radar_cm: int, hard 0..=1000, plausible 0..=500;
        /// Changes of state so far.
        change_count: int, counter None;
        /// Temperature.
        temp_c: float;
        /// Something lies on the sensor.
        covered: bool;
        /// The sensor was moved or opened.
        tamper: bool;
        /// The sensor says it is broken.
        fault: bool;
    }
}

fields! {
    /// A street light.
    StreetLight {
        /// Commanded dimming.
        dim_command_pct: float, hard 0..=100;
        /// Dimming.
        dim_pct: float, hard 0..=100;
        /// Mains voltage.
        voltage_v: float, hard 0..=500, plausible 195.5..=253.0;
        /// Lamp current.
        current_ma: int, hard 0..=20_000, plausible 0..=3000;
        /// Active power.
        power_w: float, hard 0..=2000, plausible 0..=500;
        /// Power factor.
        power_factor: float, hard -1..=1;
        /// Energy so far.
        energy_wh: int, counter None;
        /// Hours lit so far.
        on_hours: int, counter None;
        /// Ambient light.
        lux: float, hard 0..=200_000;
        /// Temperature of the control gear.
        gear_temp_c: float, hard -40..=150, plausible -30..=100;
        /// Tilt of the pole.
        tilt_deg: float, hard 0..=180, plausible 0..=15;
        /// Faults.
        faults: many(LIGHT_FAULT);
    }
}

fields! {
    /// A smoke detector.
    Smoke {
        /// State.
        state: one(SMOKE_STATE);
        /// Obscuration.
        obscuration_db_m: float, hard 0..=10, plausible 0.0..=0.5;
        /// Temperature.
        temp_c: float, hard -40..=125, plausible -20..=70;
        /// Dust in the chamber.
        contamination_pct: float;
        /// Taken off its base.
        removed: bool;
        /// Battery low.
        low_battery: bool;
        /// Outcome of the last self test.
        self_test: one(SELF_TEST);
        /// Alarms so far.
        alarm_count: int, counter None;
    }
}

fields! {
    /// An elevator.
    Elevator {
        /// Mode.
        mode: one(ELEVATOR_MODE);
        /// Direction.
        direction: one(ELEVATOR_DIRECTION);
        /// Floor.
        floor: int, hard -10..=200;
        /// Door.
        door: one(ELEVATOR_DOOR);
        /// Speed, up is positive.
        speed_m_s: float, hard -21..=21;
        /// Load.
        load_pct: float, hard 0..=200, plausible 0..=110;
        /// Somebody is inside.
        occupied: bool;
        /// The car stands where the door may open.
        door_zone: bool;
        /// Vibration.
        vibration_mg: int;
        /// Trips so far.
        trips: int, counter None;
        /// Door cycles so far.
        door_cycles: int, counter None;
        /// Hours run so far.
        run_hours: int, counter None;
        /// Faults.
        faults: many(ELEVATOR_FAULT);
        /// Temperature of the motor.
        motor_temp_c: float;
        /// Somebody is trapped.
        entrapment: bool;
    }
}

fields! {
    /// A water meter.
    Water {
        /// Volume so far.
        total_l: int, hard 0..=999_999_999, counter Some(WATER_MODULUS_L);
        /// Volume so far, backwards.
        reverse_l: int, hard 0..=999_999_999, counter Some(WATER_MODULUS_L);
        /// Flow.
        flow_l_h: float, hard -4700..=4700, plausible -3125..=3125;
        /// Pressure.
        pressure_kpa: int, hard 0..=4000, plausible 50..=1600;
        /// Temperature of the water.
        temp_c: float, hard -10..=100, plausible 0.1..=50.0;
        /// Valve.
        valve: one(WATER_VALVE);
        /// Alarms.
        alarms: many(WATER_ALARM);
        /// End of the history's first interval, against the measured time.
        history_first_end_s: int;
        /// Length of the history's intervals.
        history_interval_s: int;
        /// Volume of each interval of the history.
        history_delta_l: ints;
    }
}

fields! {
    /// A base station's own figures.
    StationStatus {
        /// Devices attached.
        attached_ues: int, hard 0..=60_000;
        /// Devices connected.
        rrc_connected: int, hard 0..=2000;
        /// Connection set-ups that succeeded.
        rrc_setup_success_permille: int, hard 0..=1000;
        /// Use of the uplink's subcarriers.
        ul_subcarrier_use_pct: int, hard 0..=100;
        /// Use of the downlink's subcarriers.
        dl_subcarrier_use_pct: int, hard 0..=100;
        /// Random access attempts so far.
        nprach_attempts: int, counter None;
        /// Random access collisions so far.
        nprach_collisions: int, counter None;
        /// Share of devices at coverage level 0.
        ce0_share_pct: int, hard 0..=100;
        /// Share of devices at coverage level 1.
        ce1_share_pct: int, hard 0..=100;
        /// Share of devices at coverage level 2.
        ce2_share_pct: int, hard 0..=100;
        /// Uplink interference.
        ul_interference_dbm: int, hard -130..=-80;
        /// Round trip to the core.
        backhaul_rtt_ms: int, hard 0..=5000;
        /// Loss towards the core.
        backhaul_loss_permille: int, hard 0..=1000;
        /// Temperature in the cabinet.
        cabinet_temp_c: float, hard -40..=85;
        /// Supply voltage.
        supply_v: float, plausible 40..=60;
        /// Charge of the backup battery.
        backup_battery_pct: int, hard 0..=100;
        /// Mains present.
        mains_ok: bool;
        /// Cabinet door open.
        door_open: bool;
        /// Processor use.
        cpu_pct: int, hard 0..=100;
        /// Messages waiting at the station.
        queue_depth: int;
        /// Messages the station dropped so far.
        dropped: int, counter None;
    }
}

/// What a reading says, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A parking space.
    Parking(Parking),
    /// A street light.
    StreetLight(StreetLight),
    /// A smoke detector.
    Smoke(Smoke),
    /// An elevator.
    Elevator(Elevator),
    /// A water meter.
    Water(Water),
    /// A base station.
    StationStatus(StationStatus),
}

macro_rules! each_body {
    ($self:expr, $body:ident => $e:expr) => {
        match $self {
            Body::Parking($body) => $e,
            Body::StreetLight($body) => $e,
            Body::Smoke($body) => $e,
            Body::Elevator($body) => $e,
            Body::Water($body) => $e,
            Body::StationStatus($body) => $e,
        }
    };
}

impl Kind {
    /// The fields of this kind's body.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Parking => Parking::FIELDS,
            Self::StreetLight => StreetLight::FIELDS,
            Self::Smoke => Smoke::FIELDS,
            Self::Elevator => Elevator::FIELDS,
            Self::Water => Water::FIELDS,
            Self::StationStatus => StationStatus::FIELDS,
        }
    }

    /// The fields all devices have; a station has none of them.
    #[must_use]
    pub const fn common_fields(self) -> &'static [Field] {
        match self {
            Self::StationStatus => &[],
            _ => Common::FIELDS,
        }
    }
}

impl Body {
    /// An empty body of a kind.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Parking => Self::Parking(Parking::default()),
            Kind::StreetLight => Self::StreetLight(StreetLight::default()),
            Kind::Smoke => Self::Smoke(Smoke::default()),
            Kind::Elevator => Self::Elevator(Elevator::default()),
            Kind::Water => Self::Water(Water::default()),
            Kind::StationStatus => Self::StationStatus(StationStatus::default()),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Parking(_) => Kind::Parking,
            Self::StreetLight(_) => Kind::StreetLight,
            Self::Smoke(_) => Kind::Smoke,
            Self::Elevator(_) => Kind::Elevator,
            Self::Water(_) => Kind::Water,
            Self::StationStatus(_) => Kind::StationStatus,
        }
    }

    /// The value at a position of [`Kind::fields`].
    #[must_use]
    pub fn value(&self, position: usize) -> Option<Value<'_>> {
        each_body!(self, body => body.value(position))
    }

    /// Calls `each` with every present field, its position in [`Kind::fields`] and its value.
    #[inline]
    pub fn visit(&self, each: impl FnMut(usize, &'static Field, Value<'_>)) {
        each_body!(self, body => body.visit(each));
    }

    /// Sets the value at a position of [`Kind::fields`].
    ///
    /// # Errors
    /// When the value is of another type than the field.
    pub fn set(&mut self, position: usize, value: Value<'_>) -> Result<(), WrongType> {
        each_body!(self, body => body.set(position, value))
    }
}

/// Which clock a reading's effective time was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimeSource {
    /// The device's.
    Measured = 1,
    /// The station's, as the device's was not usable.
    Heard = 2,
    /// Ours, as neither was usable.
    Received = 3,
}

/// The clocks of a reading, and the time that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// By the device; absent where what it says is no time at all.
    pub measured: Option<DeviceTime>,
    /// By the station that heard it.
    pub heard: Option<DeviceTime>,
    /// By us.
    pub received: ReceiveTime,
    /// What the reading is stored and sorted under.
    pub effective: DeviceTime,
    /// Where the effective time comes from.
    pub source: TimeSource,
}

/// One normalized reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The device; `None` for a station's own figures.
    pub imei: Option<Imei>,
    /// The device's reboots so far; 0 for a station.
    pub boot_epoch: u32,
    /// The device's counter; for a station its status counter.
    pub seq: u64,
    /// The clocks.
    pub times: Times,
    /// What all devices report; empty for a station.
    pub common: Common,
    /// What this kind reports.
    pub body: Body,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Why not entirely.
    pub reason: Option<QualityReason>,
}

impl Reading {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// All fields with their values, common ones first, absent ones left out.
    pub fn values(&self) -> impl Iterator<Item = (&'static Field, Value<'_>)> {
        let kind = self.kind();
        let common = kind.common_fields().iter().enumerate();
        let common = common.filter_map(|(i, field)| Some((field, self.common.value(i)?)));
        let body = kind.fields().iter().enumerate();
        common.chain(body.filter_map(|(i, field)| Some((field, self.body.value(i)?))))
    }

    /// Calls `each` with all present fields and their values, common ones first: as
    /// [`Reading::values`], in one pass over the fields.
    #[inline]
    pub fn visit(&self, mut each: impl FnMut(&'static Field, Value<'_>)) {
        if self.kind() != Kind::StationStatus {
            self.common.visit(|_, field, value| each(field, value));
        }
        self.body.visit(|_, field, value| each(field, value));
    }

    /// Digest of everything the device said, and of nothing we made of it (no receive time,
    /// quality, or effective time): xxh3 over identity, clocks and present fields by name. Two
    /// readings with the same digest are the same reading; the audit compares by it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&[self.kind().number()]);
        hash.update(&self.imei.map_or(0, Imei::get).to_le_bytes());
        hash.update(&self.boot_epoch.to_le_bytes());
        hash.update(&self.seq.to_le_bytes());
        for time in [self.times.measured, self.times.heard] {
            hash.update(&time.map_or(-1, DeviceTime::ms).to_le_bytes());
        }
        self.visit(|field, value| {
            hash.update(field.name.as_bytes());
            match value {
                Value::Int(v) => hash.update(&v.to_le_bytes()),
                // -0.0 and 0.0 print alike, so they must count alike.
                Value::Float(v) => hash.update(&(v + 0.0).to_bits().to_le_bytes()),
                Value::Bool(v) => hash.update(&[u8::from(v)]),
                Value::Enum(v) => hash.update(&v.to_le_bytes()),
                Value::EnumList(list) | Value::IntList(list) => {
                    hash.update(&(list.len() as u64).to_le_bytes());
                    for v in list {
                        hash.update(&v.to_le_bytes());
                    }
                }
            }
        });
        hash.digest()
    }

    /// Hash of the identity by which a reading is known again: (imei, boot epoch, seq, kind,
    /// measured time).
    #[must_use]
    pub fn key_hash(&self) -> u64 {
        let mut bytes = [0_u8; 29];
        let (imei, rest) = bytes.split_at_mut(8);
        imei.copy_from_slice(&self.imei.map_or(0, Imei::get).to_le_bytes());
        let (epoch, rest) = rest.split_at_mut(4);
        epoch.copy_from_slice(&self.boot_epoch.to_le_bytes());
        let (seq, rest) = rest.split_at_mut(8);
        seq.copy_from_slice(&self.seq.to_le_bytes());
        let (kind, measured) = rest.split_at_mut(1);
        kind.copy_from_slice(&[self.kind().number()]);
        measured.copy_from_slice(&self.times.measured.map_or(-1, DeviceTime::ms).to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}
