//! The run side: what a stored object does on a machine.
//!
//! Bytes from the kernel become values ([`decode`]), maps are read and merged
//! ([`maps`]), addresses get names ([`symbols`], [`names`]), and everything is
//! shown by [`output`]; what got lost is in the [`ledger`].

pub mod decode;
pub mod ledger;
pub mod maps;
pub mod names;
pub mod output;
pub mod symbols;
