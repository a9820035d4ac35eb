//! Settings of `ringmq serve`: flags, checked.

/// The flags of `ringmq serve`.
#[derive(clap::Args, Default)]
pub struct ServeArgs {}
