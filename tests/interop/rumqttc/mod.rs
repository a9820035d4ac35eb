//! rumqttc, a Rust client, as 3.1.1 and as 5.0.
mod both;
mod peer;
mod v4;
mod v5;
mod version5;
