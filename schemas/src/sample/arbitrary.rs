//! Strategies for arbitrary readings, on the wire and normalized. What they make need not make
//! sense; it only fits its types.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::field::{Field, FieldType, Value};
use crate::ids::{Imei, Region, StationId};
use crate::kind::Kind;
use crate::pb;
use crate::quality::{Quality, QualityReason};
use crate::reading::{Body, Common, Reading, TimeSource, Times};
use crate::row::Row;
use crate::time::{DeviceTime, ReceiveTime};

/// Whole numbers of which small ones, and those at the ends, are not rare.
fn int() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![-300_i64..300, any::<i32>().prop_map(i64::from), any::<i64>()]
}

fn i32s() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![-300..300, any::<i32>()]
}

fn u32s() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![0_u32..300, any::<u32>()]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-10_000..10_000_i32).prop_map(|v| f64::from(v) / 10.0),
        prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL,
    ]
}

/// An enum's number: known, unknown, or UNSPECIFIED.
fn enums() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![4 => 0..20, 1 => any::<i32>()]
}

/// Any device.
pub fn imei() -> impl Strategy<Value = Imei> {
    any::<u64>().prop_map(Imei::from_body)
}

fn radio() -> impl Strategy<Value = pb::Radio> {
    let [a, b, c, d, e] = [(); 5].map(|()| option::of(i32s()));
    let [f, g, h] = [(); 3].map(|()| option::of(u32s()));
    (a, b, c, d, e, f, g, h).prop_map(|(a, b, c, d, e, f, g, h)| pb::Radio {
        nrsrp_dbm: a,
        nrsrq_db: b,
        sinr_db: c,
        tx_power_dbm: d,
        rssi_dbm: e,
        ce_level: f,
        cell_id: g,
        pci: h,
    })
}

fn wire_parking() -> impl Strategy<Value = pb::Parking> {
    let ints = [(); 4].map(|()| option::of(i32s()));
    let counts = [(); 3].map(|()| option::of(u32s()));
    (enums(), ints, counts, any::<[bool; 3]>()).prop_map(|(state, [x, y, z, t], [a, r, c], b)| {
        pb::Parking {
            state,
            state_age_s: a,
            mag_x_raw: x,
            mag_y_raw: y,
            mag_z_raw: z,
            radar_cm: r,
            change_count: c,
            temp_dc: t,
            covered: b[0],
            tamper: b[1],
            fault: b[2],
        }
    })
}

fn wire_street_light() -> impl Strategy<Value = pb::StreetLight> {
    let counts = [(); 8].map(|()| option::of(u32s()));
    let ints = [(); 2].map(|()| option::of(i32s()));
    let energy = option::of(any::<u64>());
    (counts, ints, energy, vec(enums(), 0..5)).prop_map(|(c, [factor, temp], energy_wh, faults)| {
        let [command, dim, voltage, current, power, hours, lux, tilt] = c;
        pb::StreetLight {
            dim_command_pct: command,
            dim_pct: dim,
            voltage_dv: voltage,
            current_ma: current,
            power_dw: power,
            power_factor_milli: factor,
            energy_wh,
            on_hours: hours,
            lux,
            gear_temp_dc: temp,
            tilt_ddeg: tilt,
            faults,
        }
    })
}

fn wire_smoke() -> impl Strategy<Value = pb::Smoke> {
    let counts = [(); 3].map(|()| option::of(u32s()));
    let temp = option::of(i32s());
    (enums(), enums(), counts, temp, any::<[bool; 2]>()).prop_map(
        |(state, self_test, [obscuration, dust, alarms], temp_dc, [removed, low_battery])| {
            pb::Smoke {
                state,
                obscuration_mdb_m: obscuration,
                temp_dc,
                contamination_pct: dust,
                removed,
                low_battery,
                self_test,
                alarm_count: alarms,
            }
        },
    )
}

fn wire_elevator() -> impl Strategy<Value = pb::Elevator> {
    let ints = [(); 3].map(|()| option::of(i32s()));
    let counts = [(); 5].map(|()| option::of(u32s()));
    let flags = any::<[Option<bool>; 3]>();
    ([(); 3].map(|()| enums()), ints, counts, flags, vec(enums(), 0..5)).prop_map(
        |([mode, direction, door], [floor, speed, temp], counts, flags, faults)| {
            let [load_pct, vibration_mg, trips, door_cycles, run_hours] = counts;
            pb::Elevator {
                mode,
                direction,
                floor,
                door,
                speed_mm_s: speed,
                load_pct,
                occupied: flags[0],
                door_zone: flags[1],
                vibration_mg,
                trips,
                door_cycles,
                run_hours,
                faults,
                motor_temp_dc: temp,
                entrapment: flags[2],
            }
        },
    )
}

fn wire_water() -> impl Strategy<Value = pb::Water> {
    let registers = [(); 2].map(|()| option::of(any::<u64>()));
    let ints = [(); 2].map(|()| option::of(i32s()));
    let history = (int(), u32s(), vec(i32s(), 0..30)).prop_map(|(first, interval_s, delta_l)| {
        pb::History { first_end_delta_s: first, interval_s, delta_l }
    });
    let rest = (option::of(u32s()), enums(), vec(enums(), 0..5), option::of(history));
    (registers, ints, rest).prop_map(
        |([total_l, reverse_l], [flow, temp], (pressure_kpa, valve, alarms, history))| pb::Water {
            total_l,
            reverse_l,
            flow_l_h: flow,
            pressure_kpa,
            temp_dc: temp,
            valve,
            alarms,
            history,
        },
    )
}

/// Any typed body.
pub fn wire_body() -> impl Strategy<Value = pb::reading::Body> {
    use pb::reading::Body;
    prop_oneof![
        wire_parking().prop_map(Body::Parking),
        wire_street_light().prop_map(Body::StreetLight),
        wire_smoke().prop_map(Body::Smoke),
        wire_elevator().prop_map(Body::Elevator),
        wire_water().prop_map(Body::Water),
    ]
}

/// Any reading with a typed body, of any model; its IMEI is valid.
pub fn wire_reading() -> impl Strategy<Value = pb::Reading> {
    let model = prop_oneof![4 => 0_u32..6, 1 => 100_u32..106, 1 => any::<u32>()];
    let power = (option::of(u32s()), option::of(u32s()))
        .prop_map(|(battery_pct, battery_mv)| pb::Power { battery_pct, battery_mv });
    let head = (imei(), u32s(), u32s(), enums(), enums(), model);
    let deltas = prop_oneof![-100_000_000_i64..100_000_000, any::<i64>()];
    let rest = (option::of(radio()), option::of(power), wire_body());
    (head, [deltas.clone(), deltas], rest).prop_map(
        |((imei, seq, boot_epoch, trigger, clock, model_id), [m, h], (radio, power, body))| {
            pb::Reading {
                imei: imei.get(),
                seq,
                measured_delta_ms: m,
                heard_delta_ms: h,
                trigger,
                clock,
                radio,
                power,
                model_id,
                boot_epoch,
                body: Some(body),
            }
        },
    )
}

/// A value of a field, or none.
fn value(field: &'static Field) -> BoxedStrategy<Option<Owned>> {
    let known = match field.ty {
        FieldType::Int => int().prop_map(Owned::Int).boxed(),
        FieldType::Float => float().prop_map(Owned::Float).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Owned::Bool).boxed(),
        FieldType::Enum(_) => enums().prop_map(|n| Owned::Enum(n.max(1))).boxed(),
        FieldType::EnumList(_) => prop::collection::btree_set(1_i32..40, 1..6)
            .prop_map(|set| Owned::EnumList(set.into_iter().collect()))
            .boxed(),
        FieldType::IntList => vec(i32s(), 1..30).prop_map(Owned::IntList).boxed(),
    };
    option::of(known).boxed()
}

/// A [`Value`] that owns its lists, as strategies must.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // as there
pub enum Owned {
    Int(i64),
    Float(f64),
    Bool(bool),
    Enum(i32),
    EnumList(Vec<i32>),
    IntList(Vec<i32>),
}

impl Owned {
    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Int(v) => Value::Int(*v),
            Self::Float(v) => Value::Float(*v),
            Self::Bool(v) => Value::Bool(*v),
            Self::Enum(v) => Value::Enum(*v),
            Self::EnumList(v) => Value::EnumList(v),
            Self::IntList(v) => Value::IntList(v),
        }
    }
}

fn values(fields: &'static [Field]) -> Vec<BoxedStrategy<Option<Owned>>> {
    fields.iter().map(value).collect()
}

fn time() -> impl Strategy<Value = DeviceTime> {
    let around = 1_500_000_000_000_i64..2_000_000_000_000;
    let ms = prop_oneof![4 => around, 1 => 0_i64..=253_402_300_799_999];
    ms.prop_map(|ms| DeviceTime::from_ms(ms).unwrap_or(DeviceTime::EPOCH))
}

fn times() -> impl Strategy<Value = Times> {
    let source =
        prop::sample::select(vec![TimeSource::Measured, TimeSource::Heard, TimeSource::Received]);
    // Rows keep the receive time in microseconds.
    let received = (0_i64..4_000_000_000_000_000).prop_map(|us| ReceiveTime::from_ns(us * 1000));
    (option::of(time()), option::of(time()), received, time(), source).prop_map(
        |(measured, heard, received, effective, source)| Times {
            measured,
            heard,
            received,
            effective,
            source,
        },
    )
}

/// Any reading of a kind, as normalization could leave it.
pub fn reading(kind: Kind) -> impl Strategy<Value = Reading> {
    let is_station = kind == Kind::StationStatus;
    let quality = prop::sample::select(vec![
        Quality::Rejected,
        Quality::RejectedProbable,
        Quality::Suspicious,
        Quality::Accepted,
    ]);
    let reason = option::of(prop::sample::select(QualityReason::ALL.to_vec()));
    let identity = (imei(), u32s(), any::<u64>());
    (identity, times(), values(kind.common_fields()), values(kind.fields()), quality, reason)
        .prop_map(move |((imei, boot_epoch, seq), times, in_common, in_body, quality, reason)| {
            let mut common = Common::default();
            let mut body = Body::empty(kind);
            let fits = "a field's own type";
            for (i, value) in in_common.iter().enumerate() {
                if let Some(value) = value {
                    assert!(common.set(i, value.value()).is_ok(), "{fits}");
                }
            }
            for (i, value) in in_body.iter().enumerate() {
                if let Some(value) = value {
                    assert!(body.set(i, value.value()).is_ok(), "{fits}");
                }
            }
            Reading {
                imei: (!is_station).then_some(imei),
                boot_epoch,
                seq,
                times,
                common,
                body,
                quality,
                reason,
            }
        })
}

/// Any row, of any kind.
pub fn row() -> impl Strategy<Value = Row> {
    let reading = prop::sample::select(Kind::ALL.to_vec()).prop_flat_map(reading);
    let name = "[a-z0-9-]{1,16}";
    (any::<[u64; 2]>(), name, name, any::<u32>(), any::<bool>(), reading).prop_filter_map(
        "names that fit",
        |([lsn, batch_seq], region, station, session, replay, reading)| {
            Some(Row {
                lsn,
                region: Region::new(&region).ok()?,
                station: StationId::new(&station).ok()?,
                session,
                batch_seq,
                replay,
                reading,
            })
        },
    )
}
