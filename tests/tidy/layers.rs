//! Which module may use which, and what the lower layers must not name.
use super::Finding;
use super::source::{NamedPath, Source, blank_literals, blank_tests, paths, test_files, tokens};

/// The layer of each module; the longest prefix decides. A module may use its own layer and those below.
/// `docs/ARCHITECTURE.md` says what the layers are.
const LAYERS: &[(&str, u8)] = &[
    ("codec", 0),
    ("topic", 0),
    ("limits", 0),
    ("memory", 0),
    ("time", 0),
    ("slots", 0),
    ("auth", 1),
    ("metrics", 1),
    ("session", 1),
    ("router", 2),
    ("store", 3),
    ("fuzzing", 3),
    ("shard::core", 3),
    ("shard::envelope", 3),
    ("shard::output", 3),
    ("shard::timer_wheel", 3),
    ("shard", 4),
    ("shard::mesh", 4),
    ("shard::runtime", 4),
    ("net", 4),
    ("config", 5),
    ("admin", 5),
    ("bench", 5),
    ("client", 5),
    ("main", 5),
    ("lib", 5),
    ("store::durable", 5),
    ("auth::backend", 5),
    ("fuzzing::doors", 5),
];

/// The highest layer that is deterministic: bytes and a time in, bytes out.
const PURE: u8 = 3;

/// Crates of I/O, threads and executors.
const FOREIGN_CRATES: [&str; 10] = [
    "glommio",
    "io_uring",
    "tokio",
    "polling",
    "socket2",
    "rustix",
    "libc",
    "crossbeam_channel",
    "signal_hook",
    "rtrb",
];
const FOREIGN_PATHS: [&[&str]; 9] = [
    &["std", "net"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["std", "os"],
    &["std", "time", "SystemTime"],
    &["Instant", "now"],
    &["SystemTime", "now"],
];

/// The module path of a file under `src`: `src/shard/core/mod.rs` is `shard::core`.
fn module(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("src/").expect("a file under src").trim_end_matches(".rs");
    let mut names: Vec<&str> = inner.split('/').collect();
    if names.last() == Some(&"mod") {
        names.pop();
    }
    names
}

fn layer(module: &[&str]) -> Option<u8> {
    let whole = module.join("::");
    let is_prefix = |prefix: &str| {
        whole.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    LAYERS
        .iter()
        .filter(|(prefix, _)| is_prefix(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|found| found.1)
}

/// The path from the root of the crate, when `path` is one into this crate.
fn within_crate<'a>(module: &[&'a str], path: &NamedPath<'a>) -> Option<Vec<&'a str>> {
    let mut base = match path.segments[0] {
        "crate" => return Some(path.segments[1..].to_vec()),
        "self" | "super" if path.segments.len() > 1 => module.to_vec(),
        _ => return None,
    };
    let mut rest = &path.segments[..];
    while let Some(first @ ("self" | "super")) = rest.first().copied() {
        if first == "super" {
            base.pop();
        }
        rest = &rest[1..];
    }
    Some([&base[..], rest].concat())
}

/// Files under `src`, the tests apart, with their code and the layer of their module.
fn layered(sources: &[Source]) -> Vec<(&Source, String, Option<u8>)> {
    let tests = test_files(sources);
    let files = sources.iter().filter(|file| file.path.starts_with("src/") && file.path.ends_with(".rs"));
    let files = files.filter(|file| !tests.contains(&file.path));
    files.map(|file| (file, blank_tests(&blank_literals(&file.text)), layer(&module(&file.path)))).collect()
}

/// No module uses one of a higher layer.
pub fn upward_uses(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, code, own) in layered(sources) {
        let Some(own) = own else {
            findings.push(Finding::new(file, 1, "has no layer: give its module one in tests/tidy/layers.rs"));
            continue;
        };
        let module = module(&file.path);
        for path in paths(&tokens(&code)) {
            let Some(used) = within_crate(&module, &path) else { continue };
            if let Some(other) = layer(&used).filter(|other| *other > own) {
                let what = format!("layer {own} uses {} of layer {other}", used.join("::"));
                findings.push(Finding::new(file, path.line, &what));
            }
        }
    }
    findings
}

/// Layers 0 to 3 know no I/O, clock, thread or executor.
pub fn impure_names(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, code, own) in layered(sources) {
        if own.is_none_or(|own| own > PURE) {
            continue;
        }
        for path in paths(&tokens(&code)) {
            let names = &path.segments[..];
            let is_foreign = FOREIGN_CRATES.contains(&names[0])
                || FOREIGN_PATHS
                    .iter()
                    .any(|foreign| names.windows(foreign.len()).any(|window| window == *foreign))
                || matches!(names[..], ["async"] | ["await"]);
            if is_foreign {
                findings.push(Finding::new(file, path.line, &format!("{} in layers 0-3", names.join("::"))));
            }
        }
    }
    findings
}

/// Layers 0 to 3 go over no hash map: its order would show. `// ORDER:` on the line or just above says why it cannot.
pub fn hash_iteration(sources: &[Source]) -> Vec<Finding> {
    const MAPS: [&str; 5] = ["HashMap", "HashSet", "AHashMap", "AHashSet", "HashTable"];
    const WALKS: [&str; 11] = [
        "iter",
        "iter_mut",
        "keys",
        "values",
        "values_mut",
        "into_iter",
        "into_keys",
        "into_values",
        "drain",
        "retain",
        "extract_if",
    ];
    let mut findings = Vec::new();
    for (file, code, own) in layered(sources) {
        if own.is_none_or(|own| own > PURE) {
            continue;
        }
        let (tokens, lines): (_, Vec<&str>) = (tokens(&code), file.text.lines().collect());
        // `name: HashMap<` and `name = HashMap::`, whatever path or box stands between.
        let maps: Vec<&str> = tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| MAPS.contains(&token.text))
            .filter_map(|(at, _)| {
                let before = tokens[..at]
                    .iter()
                    .rposition(|token| matches!(token.text, ":" | "=" | ";" | "{" | "}" | ","))?;
                matches!(tokens[before].text, ":" | "=")
                    .then(|| tokens[..before].last().map(|token| token.text))?
            })
            .collect();
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| maps.contains(&token.text)) {
            let next = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
            let before = tokens[..at].iter().rev().map(|token| token.text);
            let is_looped = before
                .take_while(|text| matches!(*text, "&" | "mut" | "self" | "." | "in"))
                .any(|text| text == "in");
            let is_walked = next(1) == "." && WALKS.contains(&next(2));
            let is_explained =
                lines[token.line.saturating_sub(4)..token.line].iter().any(|line| line.contains("ORDER:"));
            if (is_walked || is_looped && next(1) == "{") && !is_explained {
                findings.push(Finding::new(
                    file,
                    token.line,
                    "goes over a hash map without saying why the order cannot show (// ORDER:)",
                ));
            }
        }
    }
    findings
}

/// Layers 0 to 4 state what cannot fail: `expect` with a reason, not `unwrap`.
pub fn unwraps(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, code, own) in layered(sources) {
        if own.is_none_or(|own| own > 4) {
            continue;
        }
        for window in tokens(&code).windows(4) {
            if let [".", "unwrap", "(", ")"] =
                [window[0].text, window[1].text, window[2].text, window[3].text]
            {
                findings.push(Finding::new(
                    file,
                    window[1].line,
                    "unwrap without a reason: expect(\"why it cannot fail\")",
                ));
            }
        }
    }
    findings
}
