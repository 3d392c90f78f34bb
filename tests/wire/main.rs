//! The wire room against the RFCs: tables of cases with their rule, round trips, naive models, and
//! arbitrary bytes.

mod build;
mod checksum;
mod ecn;
mod headers;
mod inner;
mod outer;
mod reply;
mod robustness;
mod template;
