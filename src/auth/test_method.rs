//! A method with a fixed exchange, to test the state machine of enhanced authentication with. Never on by default.
use super::{Exchange, Method, Step};
use crate::codec::ReasonCode;

/// `RINGMQ-TEST`: "hello", challenged with "challenge", answered by "response", welcomed with "welcome".
#[derive(Debug)]
pub struct TestMethod;

impl Method for TestMethod {
    fn name(&self) -> &str {
        "RINGMQ-TEST"
    }
    fn begin(&self) -> Box<dyn Exchange> {
        Box::new(TestExchange { challenged: false })
    }
}

#[derive(Debug)]
struct TestExchange {
    challenged: bool,
}

impl Exchange for TestExchange {
    fn handle_data(&mut self, data: Option<&[u8]>) -> Step {
        match (self.challenged, data) {
            (false, Some(b"hello")) => {
                self.challenged = true;
                Step::Continue(b"challenge".to_vec())
            }
            (true, Some(b"response")) => Step::Success { data: b"welcome".to_vec(), user: None },
            _ => Step::Refuse(ReasonCode::NotAuthorized),
        }
    }
}
