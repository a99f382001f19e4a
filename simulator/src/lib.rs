//! The fleet, its faults, its ledger and the audit: it links neither broker nor ingest.
