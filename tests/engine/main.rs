//! What the engine promises, over every kind of memory.

mod ageing;
mod batch;
mod bridge;
mod control;
mod explain;
mod model;
mod outer;
mod route;
mod settings;
mod source;
mod workers;
mod world;
