//! How many connections there are from each address.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;

/// Connections by address. An entry is there only while it has connections, so there are at most as
/// many as there are connections.
#[derive(Debug)]
pub(super) struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
    /// 0 is none.
    limit: usize,
}

/// One connection's share; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: Mutex::default(), limit }
    }

    /// One more connection from `address`, if there may be one.
    pub(super) fn enter(this: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = counted_as(address);
        if this.limit > 0 {
            let mut open = this.open.lock();
            let count = open.entry(address).or_insert(0);
            if *count >= this.limit {
                return None;
            }
            *count += 1;
        }
        Some(Place { addresses: Arc::clone(this), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.addresses.limit == 0 {
            return;
        }
        if let Entry::Occupied(mut entry) = self.addresses.open.lock().entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A customer gets a whole /64 of IPv6 addresses, and an IPv4 address may come in IPv6's clothes.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses::new(2));
        let enter = |text: &str| Addresses::enter(&addresses, text.parse().unwrap());
        let (first, _second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(enter("10.0.0.1").is_none() && enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        let _six = (enter("2001:db8::1"), enter("2001:db8::ffff:2"));
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::3").is_some());
        drop((_second, _six));
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let addresses = Arc::new(Addresses::new(0));
        let places: Vec<_> =
            (0..3).map(|_| Addresses::enter(&addresses, [10, 0, 0, 1].into())).collect();
        assert!(places.iter().all(Option::is_some) && addresses.open.lock().is_empty());
    }
}
