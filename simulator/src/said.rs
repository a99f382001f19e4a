//! What a fleet says in simulated time, to nobody: the readings its stations would send, in order.
//!
//! The same models with the same seed as in a run, but without a network, a wall clock or bytes on a
//! wire: for filling a store with days of a city in minutes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use loushan_schemas::ids::{NameError, Region, StationId};
use loushan_schemas::reading::Reading;
use loushan_schemas::topic::Channel;

use crate::device::Rhythm;
use crate::fault::FaultRates;
use crate::faults::{Counts, DeviceFaultRates};
use crate::fleet;
use crate::station::{Cut, Setting, Station};
use crate::traffic::Traffic;

/// Whose readings, and from when.
#[derive(Debug, Clone)]
pub struct SaidOptions {
    /// What everything is derived from.
    pub seed: u64,
    /// Unix milliseconds at which simulated time begins; whole seconds, since boot epochs count them.
    pub start_ms: i64,
    /// The stations by number, from 1. Parts of a fleet say what they say in the whole of it.
    pub stations: Range<u32>,
    /// Devices behind each station.
    pub devices_per_station: u32,
    /// When a batch is full: readings.
    pub batch_readings: usize,
    /// How long a batch's first reading waits at most, in milliseconds.
    pub linger_ms: i64,
    /// Of these only reordering is seen: what is sent twice is not said twice.
    pub faults: FaultRates,
}

/// One batch that was cut.
#[derive(Debug, Clone)]
pub struct Said {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// By whom.
    pub station: StationId,
    /// Where that is.
    pub region: Region,
    /// The station's session.
    pub session: u32,
    /// The batch within the session; of station figures, their own count.
    pub seq: u64,
    /// Where it would be published.
    pub channel: Channel,
    /// What was said: received at no time yet, effective when it was measured.
    pub readings: Vec<Reading>,
}

/// All batches of some stations, in the order in which they are cut; there is no last one.
#[derive(Debug)]
pub struct FleetSays {
    stations: Vec<Station>,
    /// The next batch of each station, with its moment and its station's place.
    next: BinaryHeap<Reverse<(i64, usize)>>,
    waiting: Vec<Option<Said>>,
}

impl FleetSays {
    /// A fleet in its kinds' own rhythm that begins to speak.
    ///
    /// # Errors
    /// When a name does not fit the grammar, which none of the fleet's does.
    pub fn new(options: &SaidOptions) -> Result<Self, NameError> {
        let last = options.stations.end.saturating_sub(1);
        let records = fleet::stations(options.seed, last)?;
        let setting = Setting {
            seed: options.seed,
            start: options.start_ms,
            rhythm: Rhythm::Natural,
            traffic: Traffic::Kinds,
            cut: Cut { readings: options.batch_readings, linger_ms: options.linger_ms },
            faults: FaultRates { duplicate: 0, republish: 0, ..options.faults },
            speed: 1,
            device_faults: DeviceFaultRates::default(),
        };
        let plans = fleet::plan(options.seed, &records, options.devices_per_station);
        let stations = plans
            .into_iter()
            .filter(|plan| options.stations.contains(&plan.number))
            .map(|plan| Station::new(plan, setting))
            .collect();
        let mut says = Self { stations, next: BinaryHeap::new(), waiting: Vec::new() };
        says.waiting.resize_with(says.stations.len(), || None);
        (0..says.stations.len()).for_each(|place| says.advance(place));
        Ok(says)
    }

    /// What befell the devices so far, as far as they have said so.
    #[must_use]
    pub fn incidents(&self) -> Counts {
        let mut counts = Counts::default();
        for station in &self.stations {
            counts.merge(station.incidents());
        }
        counts
    }

    fn advance(&mut self, place: usize) {
        let (Some(station), Some(waiting)) =
            (self.stations.get_mut(place), self.waiting.get_mut(place))
        else {
            return;
        };
        let gathered = station.next_readings();
        self.next.push(Reverse((gathered.due, place)));
        *waiting = Some(Said {
            at_ms: gathered.due,
            station: station.plan.station.clone(),
            region: station.plan.region.clone(),
            session: station.session,
            seq: gathered.seq,
            channel: gathered.channel,
            readings: gathered.readings,
        });
    }
}

impl Iterator for FleetSays {
    type Item = Said;

    fn next(&mut self) -> Option<Said> {
        let Reverse((_, place)) = self.next.pop()?;
        let said = self.waiting.get_mut(place)?.take();
        self.advance(place);
        said
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;
    use crate::faults::Incident;

    fn options(stations: Range<u32>) -> SaidOptions {
        SaidOptions {
            seed: 4,
            start_ms: 1_790_000_000_000,
            stations,
            devices_per_station: 40,
            batch_readings: 50,
            linger_ms: 2000,
            faults: FaultRates::default(),
        }
    }

    #[test]
    fn batches_come_in_order_each_reading_once_and_every_kind_speaks() {
        let said: Vec<Said> = FleetSays::new(&options(1..6)).unwrap().take(20_000).collect();
        assert!(said.is_sorted_by_key(|said| said.at_ms));
        let readings = || said.iter().flat_map(|s| s.readings.iter().map(move |r| (s, r)));
        let kinds: BTreeSet<_> = readings().map(|(_, r)| r.kind()).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        let mut seen = BTreeSet::new();
        for (said, reading) in readings() {
            assert!(seen.insert((said.station.clone(), reading.imei, reading.seq)));
        }
    }

    #[test]
    fn what_befalls_a_city_in_three_days_is_counted() {
        let mut says = FleetSays::new(&options(1..40)).unwrap();
        let end = options(1..2).start_ms + 3 * 86_400_000;
        let mut alarms = 0;
        for said in says.by_ref().take_while(|said| said.at_ms < end) {
            alarms += u64::from(said.channel == Channel::Alarm);
        }
        let counts = says.incidents();
        // 1,560 devices: some 1,000 clocks drift, and 850 meters leak a fifth of the time.
        for incident in [Incident::ClockDrifted, Incident::Rebooted, Incident::Leak] {
            assert!(counts.of(incident) > 0, "{counts}");
        }
        let loud = [Incident::Leak, Incident::Burst, Incident::Backflow, Incident::CookingSmoke]
            .iter()
            .chain(&[Incident::Fire, Incident::Entrapment, Incident::DoorJammed]);
        assert!(alarms >= loud.map(|what| counts.of(*what)).sum::<u64>(), "{alarms}: {counts}");
    }

    #[test]
    fn a_part_of_a_fleet_says_what_it_says_in_the_whole() {
        let whole = FleetSays::new(&options(1..6)).unwrap().take(5000);
        let of_third: Vec<_> = whole
            .filter(|said| said.station.as_str() == "bs0003")
            .map(|said| (said.at_ms, said.seq, said.readings))
            .collect();
        let alone = FleetSays::new(&options(3..4)).unwrap().take(of_third.len());
        let alone: Vec<_> = alone.map(|said| (said.at_ms, said.seq, said.readings)).collect();
        assert!(of_third.len() > 100);
        assert_eq!(alone, of_third);
    }
}
