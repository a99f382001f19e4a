//! What kinds, fields, values, qualities and reasons are called by people, in English and Chinese, and
//! the units of fields.
//!
//! Beside the tables they name: a test holds that nothing is without a label. The unit of a field is in
//! its name, and is read from there.

/// A name for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// In English.
    pub en: &'static str,
    /// In Chinese.
    pub zh: &'static str,
}

/// Word, English, Chinese.
type Entry = (&'static str, &'static str, &'static str);

const KINDS: &[Entry] = &[
    ("parking", "Parking space", "停车位"),
    ("street_light", "Street light", "路灯"),
    ("smoke", "Smoke detector", "烟感"),
    ("elevator", "Lift", "电梯"),
    ("water", "Water meter", "水表"),
    ("station_status", "Base station", "基站"),
];

const FIELDS: &[Entry] = &[
    // Every device.
    ("trigger", "Trigger", "触发原因"),
    ("clock", "Clock", "时钟状态"),
    ("model_id", "Model", "型号"),
    ("nrsrp_dbm", "Signal power (NRSRP)", "信号功率 NRSRP"),
    ("nrsrq_db", "Signal quality (NRSRQ)", "信号质量 NRSRQ"),
    ("sinr_db", "Signal to noise (SINR)", "信噪比 SINR"),
    ("ce_level", "Coverage level", "覆盖等级"),
    ("cell_id", "Cell", "小区标识"),
    ("tx_power_dbm", "Transmit power", "发射功率"),
    ("pci", "Physical cell", "物理小区"),
    ("battery_pct", "Battery", "电量"),
    ("battery_mv", "Battery voltage", "电池电压"),
    ("rssi_dbm", "Received power (RSSI)", "接收功率 RSSI"),
    // Shared by several kinds.
    ("state", "State", "状态"),
    ("temp_c", "Temperature", "温度"),
    ("faults", "Faults", "故障"),
    // Parking.
    ("state_age_s", "State has held for", "状态持续时间"),
    ("mag_x_raw", "Magnetometer X", "磁场 X"),
    ("mag_y_raw", "Magnetometer Y", "磁场 Y"),
    ("mag_z_raw", "Magnetometer Z", "磁场 Z"),
    ("radar_cm", "Radar distance", "雷达距离"),
    ("change_count", "Changes", "变化次数"),
    ("covered", "Covered", "被遮挡"),
    ("tamper", "Tampered with", "被拆动"),
    ("fault", "Broken", "故障"),
    // Street lights.
    ("dim_command_pct", "Commanded dimming", "调光指令"),
    ("dim_pct", "Dimming", "调光"),
    ("voltage_v", "Voltage", "电压"),
    ("current_ma", "Current", "电流"),
    ("power_w", "Power", "功率"),
    ("power_factor", "Power factor", "功率因数"),
    ("energy_wh", "Energy", "累计电能"),
    ("on_hours", "Hours lit", "亮灯时长"),
    ("lux", "Ambient light", "环境照度"),
    ("gear_temp_c", "Gear temperature", "镇流器温度"),
    ("tilt_deg", "Tilt", "倾斜角"),
    // Smoke detectors.
    ("obscuration_db_m", "Obscuration", "烟雾浓度"),
    ("contamination_pct", "Contamination", "污染度"),
    ("removed", "Removed", "被取下"),
    ("low_battery", "Battery low", "电量低"),
    ("self_test", "Self test", "自检"),
    ("alarm_count", "Alarms", "报警次数"),
    // Lifts.
    ("mode", "Mode", "运行模式"),
    ("direction", "Direction", "方向"),
    ("floor", "Floor", "楼层"),
    ("door", "Door", "门"),
    ("speed_m_s", "Speed", "速度"),
    ("load_pct", "Load", "载荷"),
    ("occupied", "Occupied", "有人"),
    ("door_zone", "In door zone", "在门区"),
    ("vibration_mg", "Vibration", "振动"),
    ("trips", "Trips", "运行次数"),
    ("door_cycles", "Door cycles", "开关门次数"),
    ("run_hours", "Hours run", "运行时长"),
    ("motor_temp_c", "Motor temperature", "电机温度"),
    ("entrapment", "Entrapment", "困人"),
    // Water meters.
    ("total_l", "Volume", "累计水量"),
    ("reverse_l", "Reverse volume", "反向水量"),
    ("flow_l_h", "Flow", "流量"),
    ("pressure_kpa", "Pressure", "压力"),
    ("valve", "Valve", "阀门"),
    ("alarms", "Alarms", "报警"),
    ("history_first_end_s", "History begins at", "历史起点"),
    ("history_interval_s", "History interval", "历史间隔"),
    ("history_delta_l", "History", "历史用量"),
    // Base stations.
    ("attached_ues", "Devices attached", "附着终端数"),
    ("rrc_connected", "Devices connected", "RRC 连接数"),
    ("rrc_setup_success_permille", "Connections set up", "RRC 建立成功率"),
    ("ul_subcarrier_use_pct", "Uplink use", "上行子载波利用率"),
    ("dl_subcarrier_use_pct", "Downlink use", "下行子载波利用率"),
    ("nprach_attempts", "Access attempts", "随机接入次数"),
    ("nprach_collisions", "Access collisions", "随机接入冲突"),
    ("ce0_share_pct", "Share at level 0", "CE0 占比"),
    ("ce1_share_pct", "Share at level 1", "CE1 占比"),
    ("ce2_share_pct", "Share at level 2", "CE2 占比"),
    ("ul_interference_dbm", "Uplink interference", "上行干扰"),
    ("backhaul_rtt_ms", "Backhaul round trip", "回传时延"),
    ("backhaul_loss_permille", "Backhaul loss", "回传丢包率"),
    ("cabinet_temp_c", "Cabinet temperature", "机柜温度"),
    ("supply_v", "Supply voltage", "供电电压"),
    ("backup_battery_pct", "Backup battery", "备用电池"),
    ("mains_ok", "Mains present", "市电正常"),
    ("door_open", "Cabinet door open", "机柜门打开"),
    ("cpu_pct", "Processor", "处理器利用率"),
    ("queue_depth", "Messages waiting", "待发消息"),
    ("dropped", "Messages dropped", "丢弃消息"),
];

const WORDS: &[Entry] = &[
    // Triggers and clocks.
    ("periodic", "periodic", "定时"),
    ("event", "event", "事件"),
    ("alarm", "alarm", "报警"),
    ("replay", "replay", "补报"),
    ("command", "command", "指令"),
    ("synced", "synced", "已同步"),
    ("free_running", "free running", "自由运行"),
    ("unset", "unset", "未设置"),
    // Parking.
    ("free", "free", "空闲"),
    ("occupied", "occupied", "占用"),
    ("unknown", "unknown", "未知"),
    // Street lights.
    ("lamp", "lamp", "灯具"),
    ("gear", "control gear", "镇流器"),
    ("over_voltage", "over-voltage", "过压"),
    ("under_voltage", "under-voltage", "欠压"),
    ("over_current", "over-current", "过流"),
    ("leakage", "leakage current", "漏电"),
    ("communication", "communication", "通信"),
    ("power_loss", "power loss", "断电"),
    ("on", "on", "亮"),
    ("off", "off", "灭"),
    // Smoke detectors.
    ("normal", "normal", "正常"),
    ("muted", "muted", "消音"),
    ("fault", "fault", "故障"),
    ("test", "test", "测试"),
    ("removed", "removed", "取下"),
    ("passed", "passed", "通过"),
    ("failed", "failed", "失败"),
    // Lifts.
    ("homing", "homing", "返基站"),
    ("parked", "parked", "驻停"),
    ("attendant", "attendant", "司机"),
    ("firefighter", "firefighter", "消防"),
    ("emergency_power", "emergency power", "应急电源"),
    ("inspection", "inspection", "检修"),
    ("cabinet_recall", "cabinet recall", "召回"),
    ("earthquake", "earthquake", "地震"),
    ("out_of_service", "out of service", "停止服务"),
    ("occupant_evacuation", "evacuation", "疏散"),
    ("in_service", "in service", "服务中"),
    ("entrapment", "entrapment", "困人"),
    ("stopped", "stopped", "停止"),
    ("up", "up", "上行"),
    ("down", "down", "下行"),
    ("closed", "closed", "关"),
    ("opening", "opening", "正在打开"),
    ("open", "open", "开"),
    ("closing", "closing", "正在关闭"),
    ("safety_locked", "safety-locked", "安全锁定"),
    ("limited_opened", "partly open", "部分打开"),
    ("controller", "controller", "控制器"),
    ("drive_and_motor", "drive and motor", "驱动与电机"),
    ("governor_and_safety_gear", "governor and safety gear", "限速器与安全钳"),
    ("shaft_device", "shaft device", "井道装置"),
    ("power_supply", "power supply", "电源"),
    ("safety_interlock", "safety interlock", "安全联锁"),
    ("door_closing", "door closing", "关门故障"),
    ("door_opening", "door opening", "开门故障"),
    ("stopped_outside_landing_zone", "stopped outside the landing zone", "非平层停梯"),
    ("call_button_stuck", "call button stuck", "按钮卡住"),
    ("start_failure", "start failure", "启动失败"),
    ("controller_supply", "controller supply", "控制器电源"),
    ("self_test", "self test", "自检"),
    ("runtime_limit_exceeded", "runtime limit exceeded", "运行超时"),
    ("position_lost", "position lost", "位置丢失"),
    ("drive_temperature_exceeded", "drive too hot", "驱动过热"),
    ("load_measurement", "load measurement", "称重"),
    // Water meters.
    ("leak", "leak", "漏水"),
    ("burst", "burst", "爆管"),
    ("backflow", "backflow", "倒流"),
    ("tamper", "tampered with", "被拆动"),
    ("low_battery", "battery low", "电量低"),
    ("air_in_pipe", "air in the pipe", "管内有空气"),
    ("frost", "frost", "冰冻"),
];

const QUALITIES: &[Entry] = &[
    ("1", "impossible", "不可能"),
    ("2", "probably wrong", "很可能错误"),
    ("3", "suspicious", "可疑"),
    ("4", "accepted", "可信"),
];

const REASONS: &[Entry] = &[
    ("under_range", "below its range", "低于范围"),
    ("over_range", "above its range", "高于范围"),
    ("stuck", "does not move", "数值不变"),
    ("step", "moved too far", "跳变"),
    ("warming_up", "warming up", "预热中"),
    ("contamination", "sensor is dirty", "传感器脏污"),
    ("hardware", "fault of the device", "设备故障"),
    ("clock_skew", "clock was wrong", "时钟偏差"),
    ("rollover", "counter turned over", "计数器翻转"),
    ("reset", "counter was reset", "计数器复位"),
    ("unknown_enum", "unknown value", "未知取值"),
    ("cross_field", "values contradict each other", "数值矛盾"),
];

const REJECTS: &[Entry] = &[
    ("undecodable", "cannot be decoded", "无法解码"),
    ("payload_too_large", "payload too large", "载荷过大"),
    ("bad_compression", "broken compression", "压缩损坏"),
    ("empty", "empty", "空载荷"),
    ("no_readings", "no readings", "没有读数"),
    ("too_many_readings", "too many readings", "读数过多"),
    ("nested_too_large", "a part is too large", "嵌套过大"),
    ("schema_major", "another schema generation", "模式版本不符"),
    ("newer_schema", "from a newer sender", "模式较新"),
    ("unknown_fields", "unknown fields (accepted)", "未知字段（已接受）"),
    ("wrong_station", "another station's name", "基站名不符"),
    ("bad_station", "no station's name", "基站名无效"),
    ("malformed_topic", "malformed topic", "主题格式错误"),
    ("bad_imei", "no IMEI", "IMEI 无效"),
    ("no_body", "no body", "没有内容"),
    ("unknown_model", "unknown model", "未知型号"),
    ("bad_raw_body", "raw body cannot be read", "原始内容无法解析"),
];

/// Ends of fields' names and the units they stand for; the longer one first where one ends another.
const UNITS: &[(&str, &str)] = &[
    ("_db_m", "dB/m"),
    ("_m_s", "m/s"),
    ("_l_h", "L/h"),
    ("_permille", "‰"),
    ("_hours", "h"),
    ("_dbm", "dBm"),
    ("_kpa", "kPa"),
    ("_pct", "%"),
    ("_deg", "°"),
    ("_db", "dB"),
    ("_mv", "mV"),
    ("_ma", "mA"),
    ("_wh", "Wh"),
    ("_mg", "mg"),
    ("_cm", "cm"),
    ("_ms", "ms"),
    ("_c", "°C"),
    ("_v", "V"),
    ("_w", "W"),
    ("_l", "L"),
    ("_s", "s"),
];

fn find(table: &[Entry], word: &str) -> Option<Label> {
    let (_, en, zh) = table.iter().find(|(known, ..)| *known == word)?;
    Some(Label { en, zh })
}

/// A kind, by its word.
#[must_use]
pub fn kind(word: &str) -> Option<Label> {
    find(KINDS, word)
}

/// A field, by its name.
#[must_use]
pub fn field(name: &str) -> Option<Label> {
    find(FIELDS, name)
}

/// A value of an enum, or a state of a kind, by its word.
#[must_use]
pub fn word(word: &str) -> Option<Label> {
    find(WORDS, word)
}

/// A quality, by its number.
#[must_use]
pub fn quality(number: u8) -> Option<Label> {
    find(QUALITIES, &number.to_string())
}

/// Why a quality is low, by its word.
#[must_use]
pub fn reason(word: &str) -> Option<Label> {
    find(REASONS, word)
}

/// Why something was rejected, by its word.
#[must_use]
pub fn reject(word: &str) -> Option<Label> {
    find(REJECTS, word)
}

/// The unit of a field's values; `None` for a number without one, or no number.
#[must_use]
pub fn unit(field: &str) -> Option<&'static str> {
    if field == "lux" {
        return Some("lx");
    }
    UNITS.iter().find(|(end, _)| field.ends_with(end)).map(|(_, unit)| *unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldType;
    use crate::kind::Kind;
    use crate::quality::QualityReason;
    use crate::reject::RejectReason;

    #[test]
    fn everything_that_is_shown_has_a_label() {
        for of in Kind::ALL {
            assert!(kind(of.as_str()).is_some(), "{of}");
            for shown in of.common_fields().iter().chain(of.fields()) {
                assert!(field(shown.name).is_some(), "{}", shown.name);
                if let FieldType::Enum(table) | FieldType::EnumList(table) = shown.ty {
                    for (_, value) in table.values {
                        assert!(word(value).is_some(), "{}: {value}", shown.name);
                    }
                }
            }
        }
        assert!(QualityReason::ALL.iter().all(|it| reason(it.as_str()).is_some()));
        assert!(RejectReason::ALL.iter().all(|it| reject(it.as_str()).is_some()));
        assert!((1..=4).all(|number| quality(number).is_some()));
    }

    #[test]
    fn every_label_is_of_something_and_there_once() {
        for table in [KINDS, FIELDS, WORDS, QUALITIES, REASONS, REJECTS] {
            for (at, (word, ..)) in table.iter().enumerate() {
                assert!(table.iter().skip(at + 1).all(|(other, ..)| other != word), "{word}");
            }
        }
        let names: Vec<&str> = Kind::ALL
            .iter()
            .flat_map(|kind| kind.common_fields().iter().chain(kind.fields()))
            .map(|field| field.name)
            .collect();
        for (name, ..) in FIELDS {
            assert!(names.contains(name), "{name} is no field");
        }
    }

    #[test]
    fn units_are_those_of_the_names() {
        for (field, expected) in [
            ("flow_l_h", Some("L/h")),
            ("total_l", Some("L")),
            ("obscuration_db_m", Some("dB/m")),
            ("nrsrq_db", Some("dB")),
            ("nrsrp_dbm", Some("dBm")),
            ("speed_m_s", Some("m/s")),
            ("state_age_s", Some("s")),
            ("backhaul_rtt_ms", Some("ms")),
            ("energy_wh", Some("Wh")),
            ("lux", Some("lx")),
            ("trips", None),
            ("mag_x_raw", None),
            ("power_factor", None),
        ] {
            assert_eq!(unit(field), expected, "{field}");
        }
    }
}
