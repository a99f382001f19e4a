//! What a restart finds again.
