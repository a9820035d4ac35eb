//! The rules of the project that can be read off its sources. Each is tried on a file that breaks it first.
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, project, rust};
use std::fmt;

/// One place that breaks a rule.
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &Source, line: usize, what: &str) -> Finding {
        Finding { path: file.path.clone(), line, what: what.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

type Rule = fn(&[Source]) -> Vec<Finding>;

#[track_caller]
fn holds(rule: Rule, sources: &[Source]) {
    let findings: Vec<String> = rule(sources).iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The lines of `text`, a file at `path`, that break the rule.
fn found(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    let file = Source { path: path.to_owned(), text: text.to_owned() };
    rule(&[file]).iter().map(|finding| finding.line).collect()
}

#[test]
fn comments_literals_and_tests_are_left_out() {
    let text = "a /* b /* c */ d */ 'e' \"f \\\" g\" r#\"h \" i\"# 'j: loop {} b\"k\" '\\'' '\"' l // m\n\
                #[cfg(test)] mod n { o } p #[cfg(test)] use q; r";
    let code = source::blank_tests(&source::blank_literals(text));
    assert_eq!(code.len(), text.len());
    let words: Vec<&str> = source::tokens(&code).iter().map(|token| token.text).collect();
    assert_eq!(words.join(" "), "a ' j : loop { } b l p r");
}

#[test]
fn group_imports_are_taken_apart() {
    let code = "use a::{b, c::{d, e::*}, self as f}; g::<h>(i)";
    let tokens = source::tokens(code);
    let paths: Vec<String> = source::paths(&tokens).iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(paths, ["use", "a::b", "a::c::d", "a::c::e::*", "a::self", "g", "h", "i"]);
}

#[test]
fn no_module_uses_a_higher_layer() {
    let upward = |text| found(layers::upward_uses, "src/session/state.rs", text);
    assert_eq!(upward("use crate::codec::Packet;\nuse crate::router::Router;"), [2]);
    assert_eq!(upward("use crate::{codec, shard::{core::Core}};"), [1]);
    assert_eq!(upward("fn f() -> super::super::net::Ring { g() }"), [1]);
    assert_eq!(upward("#[cfg(test)]\nmod tests {\n    use crate::shard::core::Core;\n}"), []);
    assert_eq!(found(layers::upward_uses, "src/shard/core/mod.rs", "use super::mesh::Mesh;"), [1]);
    assert_eq!(found(layers::upward_uses, "src/shard/runtime.rs", "use super::core::Core;"), []);
    assert_eq!(found(layers::upward_uses, "src/novelty.rs", ""), [1]);
    holds(layers::upward_uses, &rust());
}

#[test]
fn the_core_names_no_io_clock_thread_or_executor() {
    let impure = |text| found(layers::impure_names, "src/shard/core/mod.rs", text);
    assert_eq!(impure("use std::{fmt, net::TcpStream};\nuse std::io::IoSlice;"), [1]);
    assert_eq!(impure("async fn f() {\n    g().await\n}"), [1, 2]);
    assert_eq!(impure("let now = std::time::Instant::now();\nlet later = Instant::now();"), [1, 2]);
    assert_eq!(impure("glommio::spawn_local(f);\n// io_uring\n\"tokio\";"), [1]);
    assert_eq!(found(layers::impure_names, "src/net/ring.rs", "use std::net::TcpStream;"), []);
    holds(layers::impure_names, &rust());
}

#[test]
fn the_core_goes_over_no_hash_map() {
    let walk = |text: &str| found(layers::hash_iteration, "src/router/mod.rs", text);
    let fields = "struct S { map: HashMap<u8, u8>, list: Vec<u8>, boxed: Box<AHashSet<u8>> }\n";
    assert_eq!(
        walk(&format!("{fields}fn f(&self) {{ self.map.keys(); self.list.iter(); self.map.get(&1); }}")),
        [2]
    );
    assert_eq!(walk(&format!("{fields}for x in &self.boxed {{}}")), [2]);
    assert_eq!(walk(&format!("{fields}// ORDER: summed up\nself.map.values().sum()")), []);
    assert_eq!(walk("let seen = HashSet::new();\nseen.drain();"), [2]);
    holds(layers::hash_iteration, &rust());
}

#[test]
fn what_cannot_fail_says_why() {
    let text = "fn f() { g().unwrap(); h().unwrap_or(1); i().expect(\"a reason\"); }";
    assert_eq!(found(layers::unwraps, "src/codec/frame.rs", text), [1]);
    assert_eq!(found(layers::unwraps, "src/bench/mod.rs", text), []);
    holds(layers::unwraps, &rust());
}

#[test]
fn unsafe_is_fenced_and_explained() {
    let ring = |text| found(rules::unsafe_code, "src/net/ring.rs", text);
    assert_eq!(found(rules::unsafe_code, "src/codec/mod.rs", "// SAFETY: no\nunsafe { f() }"), [2]);
    assert_eq!(
        ring("// SAFETY: the buffer outlives it\nlet x =\n    unsafe { f() };\nlet y = unsafe { g() };"),
        [4]
    );
    assert_eq!(ring("// SAFETY: not this one\nf();\nunsafe { g() }"), [3]);
    assert_eq!(ring("unsafe impl Send for Ring {}"), [1]);
    assert_eq!(ring("#![allow(unsafe_code)]\n\"unsafe {\""), []);
    holds(rules::unsafe_code, &rust());
}

#[test]
fn files_are_short() {
    assert_eq!(found(rules::long_files, "src/a.rs", &"\n".repeat(601)), [601]);
    assert_eq!(found(rules::long_files, "src/a.rs", &"\n".repeat(600)), []);
    holds(rules::long_files, &rust());
}

#[test]
fn nothing_is_left_for_later() {
    let text = "fn f() {\n    todo!()\n}\nfn g() { unimplemented!(\"x\") }\n#[ignore = \"slow\"]\nfn h() {} // todo!";
    assert_eq!(found(rules::unfinished, "src/a.rs", text), [2, 4, 5]);
    holds(rules::unfinished, &rust());
}

#[test]
fn names_say_what_things_are() {
    assert_eq!(found(rules::empty_names, "src/util/mod.rs", ""), [1]);
    assert_eq!(
        found(rules::empty_names, "src/a.rs", "\nstruct PacketHandler;\nstruct Types;\nstruct Packet;"),
        [2, 3]
    );
    holds(rules::empty_names, &rust());
}

#[test]
fn no_machine_is_named() {
    let path = ["/ro", "ot/x"].concat();
    assert_eq!(found(rules::machine_names, "README.md", &format!("a\nsee {path}")), [2]);
    holds(rules::machine_names, &project());
}
