//! Figures of the parts that only the service knows, looked up when they are about to be read.

use metrics::gauge;

use super::ServiceView;

impl ServiceView {
    /// Brings their metrics up to date. May read the file system.
    #[allow(clippy::cast_precision_loss)] // gauges are doubles
    pub(super) fn record_figures(&self) {
        crate::metrics::limits(&self.limits);
        let fleet = self.registry.counts();
        gauge!("loushan_stations").set(fleet.stations as f64);
        gauge!("loushan_stations_registered").set(fleet.registered as f64);
        gauge!("loushan_stations_online").set(fleet.online as f64);
        gauge!("loushan_devices").set(fleet.devices as f64);
        let store = self.store.stats();
        gauge!("loushan_store_memory_rows").set(store.memory_rows as f64);
        gauge!("loushan_store_memory_bytes").set(store.memory_bytes as f64);
        gauge!("loushan_store_cache_bytes").set(store.cached_bytes as f64);
        match self.io.free_bytes(&self.data) {
            Ok(bytes) => gauge!("loushan_disk_free_bytes").set(bytes as f64),
            // No figure is better than an old one.
            Err(error) => {
                gauge!("loushan_disk_free_bytes").set(f64::NAN);
                tracing::warn!(%error, "the disk's free space is unknown");
            }
        }
    }
}
