//! Names for links.

/// Client ids for the router, used again and again: it keeps every one it ever saw.
#[derive(Debug, Default)]
pub(super) struct Names {
    free: Vec<u64>,
    next: u64,
}

impl Names {
    /// A name that no link has.
    pub(super) fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        })
    }

    /// A link's name is free again.
    pub(super) fn give(&mut self, name: u64) {
        self.free.push(name);
    }
}
