//! `ringmq rr` against a broker and a responder.
use crate::process::{Broker, topic};

#[test]
fn the_response_with_the_right_correlation_data_is_printed() {
    let broker = Broker::start();
    for qos in ["0", "1", "2"] {
        let (question, answer) = (topic("question"), topic("answer"));
        let mut responder = broker.subscribe(&["-t", &question, "-V", "5", "-C", "1", "-F", "%R|%D|%p"]);
        let mut requester = broker.start_command(
            "rr",
            &["-t", &question, "-e", &answer, "-m", "how are you", "-q", qos, "-v", "-d"],
        );
        let asked = responder.message();
        let [topic, correlation, payload] = asked.split('|').collect::<Vec<_>>()[..] else {
            panic!("{asked}")
        };
        assert_eq!((topic, payload), (answer.as_str(), "how are you"));
        assert!(!correlation.is_empty());
        let respond = |correlation: &str, payload: &str| {
            broker.publish(&[
                "-t",
                topic,
                "-q",
                qos,
                "-m",
                payload,
                "-D",
                "publish",
                "correlation-data",
                correlation,
            ]);
        };
        respond("another's", "wrong");
        respond(correlation, "fine");
        assert_eq!(requester.message(), format!("{answer} fine"));
        assert_eq!(requester.end().code(), Some(0));
    }
}

#[test]
fn without_properties_any_message_on_the_response_topic_answers() {
    let broker = Broker::start();
    let (question, answer) = (topic("question"), topic("answer"));
    let mut responder = broker.subscribe(&["-t", &question, "-C", "1"]);
    let mut requester =
        broker.start_command("rr", &["-V", "311", "-t", &question, "-e", &answer, "-m", "ping", "-F", "%p!"]);
    assert_eq!(responder.message(), "ping");
    broker.publish(&["-t", &answer, "-m", "pong"]);
    assert_eq!(requester.message(), "pong!");
    assert_eq!(requester.end().code(), Some(0));
}

#[test]
fn no_response_in_time_is_27() {
    let broker = Broker::start();
    let output = broker.run("rr", &["-t", &topic("question"), "-e", &topic("answer"), "-n", "-W", "1"]);
    assert_eq!((output.code, output.text(), output.err.as_str()), (27, "", "Timed out\n"));
}
