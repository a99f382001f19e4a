//! What is pinned: bytes of every message, digests and keys, words and numbers, ranges.

mod digests;
mod golden;
mod ranges;
mod words;
