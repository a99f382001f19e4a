//! What is pinned: bytes of every message, digests and keys, words and numbers, ranges.

#![allow(clippy::unwrap_used, clippy::string_slice)]

mod digests;
mod golden;
mod ranges;
mod words;
