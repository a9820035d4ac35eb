//! (topic)
