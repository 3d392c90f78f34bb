//! Bytes to headers and back; no state.
