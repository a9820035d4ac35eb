//! What holds for any packet and any bytes.
mod any;
mod delivery;
mod properties;
mod stream;
