//! What holds in every file.
use super::Finding;
use super::source::{Source, blank_literals, tokens};

/// Where `unsafe` may be.
const UNSAFE_FILES: [&str; 4] =
    ["src/net/ring.rs", "src/net/ring/buffers.rs", "src/net/handoff.rs", "src/shard/runtime/allocator.rs"];

/// Lines at which a file has more than one concern, and files that may be longer, each with its reason.
const MOST_LINES: usize = 600;
const LONGER: [(&str, &str); 0] = [];
/// Lines no file may have, whatever the reason.
const HARD_LIMIT: usize = 1000;

/// Words that say nothing about what a module or type is.
const EMPTY_NAMES: [&str; 9] =
    ["handler", "manager", "helper", "helpers", "util", "utils", "common", "types", "misc"];

/// `unsafe` is in these files only, and each use says why it is sound.
pub fn unsafe_code(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sources {
        let (code, lines): (_, Vec<&str>) = (blank_literals(&file.text), file.text.lines().collect());
        let tokens = tokens(&code);
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe") {
            if !UNSAFE_FILES.contains(&&*file.path) {
                findings.push(Finding::new(file, token.line, "unsafe outside of the files that may have it"));
            }
            let next = tokens.get(at + 1).map_or("", |token| token.text);
            if matches!(next, "{" | "impl") && !is_explained(&lines, token.line) {
                findings.push(Finding::new(file, token.line, "unsafe without a SAFETY: comment"));
            }
        }
    }
    findings
}

/// Whether `SAFETY:` stands in the statement of this line or in the comment above it.
fn is_explained(lines: &[&str], line: usize) -> bool {
    if lines[line - 1].contains("SAFETY:") {
        return true;
    }
    let above = lines[..line - 1].iter().rev();
    let is_before = |text: &str| text.trim().is_empty() || text.trim_end().ends_with([';', '{', '}']);
    let mut statement = above.take_while(|text| text.trim_start().starts_with("//") || !is_before(text));
    statement.any(|text| text.contains("SAFETY:"))
}

/// Files are short.
pub fn long_files(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sources {
        let count = file.text.lines().count();
        let is_excused = LONGER.iter().any(|(path, reason)| *path == file.path && !reason.is_empty());
        if count > HARD_LIMIT || count > MOST_LINES && !is_excused {
            findings.push(Finding::new(file, count, &format!("{count} lines, more than {MOST_LINES}")));
        }
    }
    findings
}

/// Nothing is left for later, and no test is switched off.
pub fn unfinished(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sources {
        let code = blank_literals(&file.text);
        for window in tokens(&code).windows(3) {
            let found = match [window[0].text, window[1].text, window[2].text] {
                ["todo" | "unimplemented", "!", _] => "is not finished",
                ["#", "[", "ignore"] => "switches a test off",
                _ => continue,
            };
            findings.push(Finding::new(file, window[0].line, found));
        }
    }
    findings
}

/// Files, folders and types say what they are.
pub fn empty_names(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sources {
        for part in file.path.trim_end_matches(".rs").split('/').filter(|part| EMPTY_NAMES.contains(part)) {
            findings.push(Finding::new(file, 1, &format!("{part} is no name for a module")));
        }
        let code = blank_literals(&file.text);
        for window in tokens(&code).windows(2) {
            let (kind, name) = (window[0].text, window[1].text.to_lowercase());
            let is_empty = EMPTY_NAMES.iter().any(|empty| name.ends_with(empty));
            if matches!(kind, "struct" | "enum" | "trait") && is_empty {
                findings.push(Finding::new(
                    file,
                    window[0].line,
                    &format!("{} is no name for a type", window[1].text),
                ));
            }
        }
    }
    findings
}

/// No file names a machine's own folders or the hosts of package registries.
pub fn machine_names(sources: &[Source]) -> Vec<Finding> {
    // In two pieces, so that this file is no finding itself.
    let forbidden =
        [["/ro", "ot/"], ["/wo", "rk/"], ["index.crates", ".io"], ["registry.np", "mjs"], ["pypi", ".org"]];
    let mut findings = Vec::new();
    for file in sources {
        for (number, line) in file.text.lines().enumerate() {
            for name in forbidden.iter().map(|halves| halves.concat()).filter(|name| line.contains(name)) {
                findings.push(Finding::new(file, number + 1, &format!("names {name}")));
            }
        }
    }
    findings
}
