//! CONNECT and CONNACK.
mod support;
use support::*;

#[test]
fn a_valid_connect_is_accepted() {
    each_version(|broker, version| {
        Client::new(broker, version).expect_nothing_until_ping();
    });
}
