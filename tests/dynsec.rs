//! Users, groups and roles that change at run time, by `mosquitto_ctrl dynsec` as it is.
mod support;
use support::*;

use std::path::Path;
use std::process::Command;

const NOT_AUTHORIZED: u8 = 0x87;
const BAD_PASSWORD: u8 = 0x86;
const ADMINISTRATIVE_ACTION: u8 = 0x98;
const TOPIC: &str = "$CONTROL/dynamic-security/v1";
const RESPONSES: &str = "$CONTROL/dynamic-security/v1/response";

/// A new file with the administrator admin, whose password is "adminpw".
fn file() -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("dynsec"));
    let path = path.to_str().unwrap().to_string();
    std::fs::remove_file(&path).ok();
    let init = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(["dynsec", "init", &path, "admin", "adminpw"])
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    path
}

/// Runs mosquitto_ctrl; what it says, and whether it was content.
fn ctrl(broker: &Broker, args: &[&str]) -> (String, bool) {
    let port = broker.address.port().to_string();
    let output = Command::new("mosquitto_ctrl")
        .args(["-h", "127.0.0.1", "-p", &port, "-u", "admin", "-P", "adminpw", "dynsec"])
        .args(args)
        .output()
        .expect("mosquitto_ctrl of the Debian package mosquitto");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let is_content = output.status.success() && !said.contains("Error");
    (said, is_content)
}

#[track_caller]
fn done(broker: &Broker, args: &[&str]) -> String {
    let (said, is_content) = ctrl(broker, args);
    assert!(is_content, "{args:?}: {said}");
    said
}

fn user(name: &str, password: &str) -> Connect {
    Connect::new(Version::V5, &unique("c")).user(name).password(password)
}

#[test]
fn mosquitto_ctrl_works_as_it_is() {
    let path = file();
    let broker = Broker::start(2, &["--dynsec-file", &path]);
    let done = |args: &[&str]| done(&broker, args);
    done(&["createRole", "reader"]);
    done(&["addRoleACL", "reader", "subscribePattern", "news/#", "allow", "5"]);
    done(&["addRoleACL", "reader", "publishClientReceive", "news/secret", "deny"]);
    done(&["createRole", "writer"]);
    done(&["addRoleACL", "writer", "publishClientSend", "news/#", "allow"]);
    done(&["createClient", "ann", "-p", "ann-secret"]);
    done(&["createClient", "bob", "-p", "bob-secret", "-c", "bobs-id"]);
    done(&["addClientRole", "ann", "reader", "1"]);
    done(&["createGroup", "staff"]);
    done(&["addGroupRole", "staff", "writer"]);
    done(&["addGroupClient", "staff", "bob"]);

    let mut ann = Client::connect(&broker, &user("ann", "ann-secret"));
    assert_eq!(
        ann.subscribe_codes(&[("news/#", 1), ("other/#", 1), ("#", 1)]),
        [1, NOT_AUTHORIZED, NOT_AUTHORIZED]
    );
    Client::refused(&broker, &user("ann", "wrong"), BAD_PASSWORD);
    Client::refused(&broker, &user("bob", "bob-secret"), NOT_AUTHORIZED);
    let bobs = Connect::new(Version::V5, "bobs-id").user("bob").password("bob-secret");
    let mut bob = Client::connect(&broker, &bobs);
    bob.publish("news/secret", 1, "hush");
    bob.publish("news/x", 1, "hello");
    ann.expect_message("news/x", "hello");

    // What changes holds at once for those who are connected.
    done(&["removeRoleACL", "reader", "publishClientReceive", "news/secret"]);
    bob.publish("news/secret", 1, "not any more");
    ann.expect_message("news/secret", "not any more");
    done(&["removeGroupRole", "staff", "writer"]);
    let id = bob.fresh_id();
    bob.send_publish(&Publish::new("news/x", "denied").qos(1).id(id));
    bob.expect_ack_code(Kind::Puback, id, NOT_AUTHORIZED);
    done(&["setDefaultACLAccess", "publishClientSend", "allow"]);
    bob.publish("news/x", 1, "by default");
    ann.expect_message("news/x", "by default");

    let said = done(&["getClient", "bob"]);
    assert!(said.contains("bobs-id") && said.contains("staff") && !said.contains("secret"), "{said}");
    assert!(done(&["listClients"]).contains("ann"));
    assert!(done(&["getRole", "reader"]).contains("news/#"));
    assert!(done(&["getGroup", "staff"]).contains("bob"));
    assert!(done(&["listRoles"]).contains("writer") && done(&["listGroups"]).contains("staff"));
    assert!(done(&["getDefaultACLAccess"]).contains("publishClientSend"));
    done(&["setAnonymousGroup", "staff"]);
    assert!(done(&["getAnonymousGroup"]).contains("staff"));
    for (args, expected) in [
        (&["createClient", "ann", "-p", "x"][..], "already exists"),
        (&["addClientRole", "ann", "none"], "not found"),
        (&["addGroupClient", "staff", "bob"], "already in this group"),
        (&["deleteRole", "none"], "not found"),
        (&["getClient", "none"], "not found"),
    ] {
        let (said, is_content) = ctrl(&broker, args);
        assert!(!is_content && said.contains(expected), "{args:?}: {said}");
    }

    // Whose credentials are not good any more is sent away.
    done(&["setClientPassword", "ann", "new-secret"]);
    ann.expect_disconnect(ADMINISTRATIVE_ACTION);
    Client::refused(&broker, &user("ann", "ann-secret"), BAD_PASSWORD);
    let mut ann = Client::connect(&broker, &user("ann", "new-secret"));
    done(&["disableClient", "ann"]);
    ann.expect_disconnect(ADMINISTRATIVE_ACTION);
    Client::refused(&broker, &user("ann", "new-secret"), NOT_AUTHORIZED);
    done(&["enableClient", "ann"]);
    done(&["deleteClient", "bob"]);
    bob.expect_disconnect(ADMINISTRATIVE_ACTION);
    Client::refused(&broker, &bobs, BAD_PASSWORD);
    drop(broker);

    // All of it is in the file.
    let broker = Broker::start(1, &["--dynsec-file", &path]);
    let mut ann = Client::connect(&broker, &user("ann", "new-secret"));
    ann.subscribe("news/#", 1);
    Client::refused(&broker, &bobs, BAD_PASSWORD);
}

#[test]
fn only_who_may_publish_there_gives_commands() {
    let path = file();
    let before = std::fs::read_to_string(&path).unwrap();
    let broker = Broker::start(1, &["--dynsec-file", &path, "--allow-anonymous"]);
    let command = r#"{"commands":[{"command":"createClient","username":"eve","password":"x"}]}"#;
    // Neither under its own name, nor by the client id of the administrator, nor by a will.
    for id in [unique("c"), "admin".to_string(), "$CONTROL".to_string()] {
        let mut guest = Client::connect(&broker, &Connect::new(Version::V5, &id));
        assert_eq!(guest.subscribe_codes(&[(RESPONSES, 0)]), [NOT_AUTHORIZED]);
        let id = guest.fresh_id();
        guest.send_publish(&Publish::new(TOPIC, command).qos(1).id(id));
        guest.expect_ack_code(Kind::Puback, id, NOT_AUTHORIZED);
    }
    let will = Connect::new(Version::V5, &unique("c")).will(Will::new(TOPIC, command));
    Client::refused(&broker, &will, NOT_AUTHORIZED);
    let mut admin = Client::connect(&broker, &user("admin", "adminpw"));
    // Answers are not for everybody to forge.
    let id = admin.fresh_id();
    admin.send_publish(&Publish::new(RESPONSES, "{}").qos(1).id(id));
    admin.expect_ack_code(Kind::Puback, id, NOT_AUTHORIZED);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    admin.publish(TOPIC, 1, command);
    let response = admin.expect_publish();
    assert_eq!(response.topic, RESPONSES);
    assert_eq!(response.payload, br#"{"responses":[{"command":"createClient"}]}"#);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn no_default_opens_the_control() {
    let broker = Broker::start(1, &["--dynsec-file", &file(), "--allow-anonymous"]);
    let mut admin = Client::connect(&broker, &user("admin", "adminpw"));
    let everything = r#"{"commands":[{"command":"setDefaultACLAccess","acls":[
        {"acltype":"publishClientSend","allow":true},{"acltype":"publishClientReceive","allow":true},
        {"acltype":"subscribe","allow":true}]},{"command":"createClient","username":"eve","password":"pw"}]}"#;
    admin.publish(TOPIC, 1, everything);
    assert!(!String::from_utf8(admin.expect_publish().payload).unwrap().contains("error"));
    for connect in [user("eve", "pw"), Connect::new(Version::V5, &unique("c"))] {
        let mut client = Client::connect(&broker, &connect);
        assert_eq!(client.subscribe_codes(&[(RESPONSES, 0), ("a/b", 0)]), [NOT_AUTHORIZED, 0]);
        let id = client.fresh_id();
        client.send_publish(&Publish::new(TOPIC, "{}").qos(1).id(id));
        client.expect_ack_code(Kind::Puback, id, NOT_AUTHORIZED);
        client.publish("a/b", 0, "by default");
        client.expect_message("a/b", "by default");
    }
    // The filter # of an administrator takes $CONTROL in, as with Mosquitto.
    assert_eq!(admin.subscribe_codes(&[("$CONTROL/#", 0)]), [0]);
}

#[test]
fn messages_that_are_no_commands_are_answered() {
    let path = file();
    let broker = Broker::start(1, &["--dynsec-file", &path]);
    let mut admin = Client::connect(&broker, &user("admin", "adminpw"));
    for (payload, expected) in [
        ("", "Payload not valid JSON"),
        ("[]", "Invalid/missing commands"),
        ("{}", "Invalid/missing commands"),
        (r#"{"commands":[1]}"#, "Command not an object"),
        (r#"{"commands":[{}]}"#, "Missing command"),
        (
            r#"{"commands":[{"command":"fly","correlationData":"x"}]}"#,
            r#""correlationData":"x","error":"Unknown command""#,
        ),
        (
            r#"{"commands":[{"command":"createRole","rolename":"r","acls":[{"acltype":"x","topic":"t"}]}]}"#,
            "Unknown acltype",
        ),
        (r#"{"commands":[{"command":"createClient","username":1}]}"#, "Invalid/missing username"),
        (
            r#"{"commands":[{"command":"createClient","username":"x","roles":[{"rolename":"none"}]}]}"#,
            "Role not found",
        ),
        (r#"{"commands":[{"command":"createRole","rolename":"\uffffx"}]}"#, "Role name not valid UTF-8"),
        (r#"{"commands":[{"command":"getClient","username":"x"}]}"#, "Client not found"),
        (r#"{"commands":[{"command":"getDetails"}]}"#, r#""clientCount":1"#),
    ] {
        admin.publish(TOPIC, 1, payload);
        let response = String::from_utf8(admin.expect_publish().payload).unwrap();
        assert!(response.contains(expected), "{payload}: {response}");
    }
}

#[test]
fn init_overwrites_nothing_and_mistakes_are_refused_at_the_start() {
    let path = file();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["dynsec", "init", &path, "admin", "x"]);
    assert!(code == Some(2) && said.contains("exists already"), "{said}");
    std::fs::write(&path, "{").unwrap();
    let (code, said) = run(&["serve", "--listen", "127.0.0.1:0", "--dynsec-file", &path]);
    assert!(code == Some(2) && said.contains(&path), "{said}");
    let (code, said) = run(&["serve", "--listen", "127.0.0.1:0", "--dynsec-file", "/nonexistent/file"]);
    assert!(code == Some(2) && said.contains("dynsec init"), "{said}");
}
