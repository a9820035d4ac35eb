//! `tests/conformance.toml` accounts for every normative statement that binds a server.
//!
//! `tests/conformance/ids.tsv` lists the statements of both standards and who must comply. For each that concerns a
//! server the file has one entry: the tests that would fail if the broker broke it, or the reason why it has none.
//!
//! ```toml
//! [[statement]]
//! id = "MQTT-3.1.0-1"
//! version = "3.1.1"
//! tests = ["tests/connect.rs::name_of_the_test"]
//! ```
#[path = "tidy/source.rs"]
#[allow(dead_code, reason = "tests/tidy.rs uses the rest")]
mod source;

use serde::Deserialize;
use source::{blank_literals, tokens};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

const VERSIONS: [&str; 2] = ["3.1.1", "5.0"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    statement: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    version: String,
    /// `path/of/file.rs::name_of_the_test`.
    #[serde(default)]
    tests: Vec<String>,
    #[serde(default)]
    reason: String,
}

/// A normative statement: the version of the standard, and its id there.
type Key = (String, String);

/// What binds a server, from the text of `ids.tsv`.
fn binding(ids: &str) -> Vec<Key> {
    let rows = ids.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let [version, id, who] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns in {line:?}")
        };
        assert!(VERSIONS.contains(&version) && matches!(who, "server" | "client" | "both"), "{line:?}");
        (version, id, who)
    });
    rows.filter(|row| row.2 != "client").map(|row| (row.0.to_owned(), row.1.to_owned())).collect()
}

/// Whether `code` has a function `name` with the attribute `#[test]`.
fn has_test(code: &str, name: &str) -> bool {
    let code = blank_literals(code);
    let words: Vec<&str> = tokens(&code).iter().map(|token| token.text).collect();
    words.windows(2).enumerate().filter(|(_, pair)| *pair == ["fn", name]).any(|(at, _)| {
        let start =
            words[..at].iter().rposition(|word| matches!(*word, "}" | "{" | ";")).map_or(0, |end| end + 1);
        words[start..at].windows(4).any(|window| window == ["#", "[", "test", "]"])
    })
}

/// What is wrong with `list`; `read` gives a file's text.
fn mistakes(binding: &[Key], list: &List, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut entries: HashMap<Key, usize> = HashMap::new();
    let mut files: HashMap<&str, Option<String>> = HashMap::new();
    for statement in &list.statement {
        let name = format!("{} {}", statement.version, statement.id);
        *entries.entry((statement.version.clone(), statement.id.clone())).or_default() += 1;
        if statement.tests.is_empty() && statement.reason.trim().is_empty() {
            wrong.push(format!("{name}: neither tests nor a reason"));
        }
        for test in &statement.tests {
            let Some((file, function)) = test.split_once("::") else {
                wrong.push(format!("{name}: {test:?} is not path::test"));
                continue;
            };
            match files.entry(file).or_insert_with(|| read(file)) {
                None => wrong.push(format!("{name}: there is no file {file}")),
                Some(code) if !has_test(code, function) => {
                    wrong.push(format!("{name}: no test {function} in {file}"))
                }
                Some(_) => {}
            }
        }
    }
    let unlisted = binding.iter().filter(|key| !entries.contains_key(key));
    wrong.extend(unlisted.map(|(version, id)| format!("{version} {id}: has no entry")));
    // Sorted, so that the order of the map does not show.
    for ((version, id), count) in entries.into_iter().collect::<BTreeMap<_, _>>() {
        if !binding.contains(&(version.clone(), id.clone())) {
            wrong.push(format!("{version} {id}: is no statement that binds a server"));
        }
        if count > 1 {
            wrong.push(format!("{version} {id}: has {count} entries"));
        }
    }
    wrong
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn every_statement_has_tests_or_a_reason() {
    let binding = binding(&read("tests/conformance/ids.tsv").expect("the list of statements"));
    let text = read("tests/conformance.toml").expect("tests/conformance.toml");
    let list: List = toml::from_str(&text).expect("entries as described above");
    let wrong = mistakes(&binding, &list, read);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    for version in VERSIONS {
        let entries = || list.statement.iter().filter(|statement| statement.version == version);
        let (all, tested) =
            (entries().count(), entries().filter(|statement| !statement.tests.is_empty()).count());
        let share = 100.0 * tested as f64 / all as f64;
        // Straight to the output: the share is to be seen in a run that passes.
        writeln!(
            std::io::stderr(),
            "conformance {version}: {tested} of {all} statements that bind a server have a test ({share:.1} %), {} a reason",
            all - tested
        )
        .expect("the standard error output");
    }
}

#[test]
fn mistakes_are_found() {
    let ids = "# version\tid\twho\n5.0\tMQTT-1\tserver\n5.0\tMQTT-2\tboth\n5.0\tMQTT-3\tclient\n3.1.1\tMQTT-1\tboth\n";
    let binding = binding(ids);
    assert_eq!(binding.len(), 3);
    let files = |path: &str| (path == "tests/a.rs").then(|| "#[test]\nfn b() {}\nfn c() {}".to_owned());
    let found = |entries: &str| mistakes(&binding, &toml::from_str(entries).unwrap(), files);
    let entry = |version: &str, id: &str, rest: &str| {
        format!("[[statement]]\nversion = \"{version}\"\nid = \"{id}\"\n{rest}\n")
    };
    let good =
        entry("5.0", "MQTT-1", "tests = [\"tests/a.rs::b\"]") + &entry("5.0", "MQTT-2", "reason = \"so\"");
    let whole = good.clone() + &entry("3.1.1", "MQTT-1", "tests = [\"tests/a.rs::b\"]\nreason = \"in part\"");
    assert_eq!(found(&whole), Vec::<String>::new());
    assert_eq!(found(&good), ["3.1.1 MQTT-1: has no entry"]);
    let with = |rest: &str| found(&(good.clone() + &entry("3.1.1", "MQTT-1", rest)));
    assert_eq!(with(""), ["3.1.1 MQTT-1: neither tests nor a reason"]);
    assert_eq!(with("tests = [\"tests/a.rs::c\"]"), ["3.1.1 MQTT-1: no test c in tests/a.rs"]);
    assert_eq!(with("tests = [\"tests/z.rs::b\"]"), ["3.1.1 MQTT-1: there is no file tests/z.rs"]);
    assert_eq!(with("tests = [\"b\"]"), ["3.1.1 MQTT-1: \"b\" is not path::test"]);
    assert_eq!(
        found(&(whole.clone() + &entry("5.0", "MQTT-2", "reason = \"x\""))),
        ["5.0 MQTT-2: has 2 entries"]
    );
    let stray = found(&(whole + &entry("5.0", "MQTT-3", "reason = \"x\"")));
    assert_eq!(stray, ["5.0 MQTT-3: is no statement that binds a server"]);
}
