//! State that knows no packets.
