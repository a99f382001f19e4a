//! What was read of files and is kept: footers and bloom filters, bounded in bytes.

use std::collections::HashMap;

/// A file, and what of it.
type Id = (u64, usize);

/// Things by file, the ones not used for longest given up first.
#[derive(Debug)]
pub(super) struct Cache<T> {
    bound: usize,
    bytes: usize,
    clock: u64,
    known: HashMap<Id, (T, usize, u64)>,
}

impl<T: Clone> Cache<T> {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, bytes: 0, clock: 0, known: HashMap::new() }
    }

    pub(super) fn get(&mut self, id: Id) -> Option<T> {
        self.clock += 1;
        let (thing, _, used) = self.known.get_mut(&id)?;
        *used = self.clock;
        Some(thing.clone())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, id: Id, thing: T, bytes: usize) {
        if bytes > self.bound {
            return;
        }
        self.clock += 1;
        if let Some((_, before, _)) = self.known.insert(id, (thing, bytes, self.clock)) {
            self.bytes -= before;
        }
        self.bytes += bytes;
        while self.bytes > self.bound {
            let oldest = self.known.iter().min_by_key(|(_, (_, _, used))| *used).map(|(id, _)| *id);
            let Some((_, bytes, _)) = oldest.and_then(|id| self.known.remove(&id)) else { break };
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_the_bound_holds() {
        let mut cache = Cache::new(100);
        for id in 0..3 {
            cache.put((id, 0), id, 40);
        }
        let mut kept = |ids: [u64; 3]| ids.map(|id| cache.get((id, 0)));
        assert_eq!(kept([0, 2, 1]), [None, Some(2), Some(1)]);
        cache.put((3, 0), 3, 60);
        let mut kept = |ids: [u64; 3]| ids.map(|id| cache.get((id, 0)));
        assert_eq!(kept([1, 2, 3]), [Some(1), None, Some(3)]);
        cache.put((4, 0), 4, 101);
        assert_eq!(cache.get((4, 0)), None);
        cache.put((3, 0), 5, 10);
        assert_eq!((cache.get((3, 0)), cache.bytes), (Some(5), 50));
    }
}
