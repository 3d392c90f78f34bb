//! Segmentation in user space: cutting and merging against naive models, the kernel's rules as
//! tables of cases, and the parsers of others.

mod gro;
mod make;
mod merge;
mod model;
mod segment;
