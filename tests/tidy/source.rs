//! The project's files, and Rust code without its comments, literals and tests.
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of the project.
pub struct Source {
    /// Relative to the project, with `/`.
    pub path: String,
    pub text: String,
}

/// A word, a `::`, or one other character of Rust code.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
}

/// Where the project is. Read when the tests run, so that they can be pointed at another copy.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test").into()
}

/// All files of the project that are written by hand.
pub fn project() -> Vec<Source> {
    let (root, mut files) = (root(), Vec::new());
    walk(&root, &root, &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the sources are found");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The Rust files among [`project`].
pub fn rust() -> Vec<Source> {
    project().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    const SKIPPED: [&str; 6] = [".git", "target", "node_modules", "corpus", "artifacts", "__pycache__"];
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if SKIPPED.contains(&&*name) || name.ends_with(".lock") || name == "package-lock.json" {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path =
                path.strip_prefix(root).expect("below the project").to_string_lossy().replace('\\', "/");
            files.push(Source { path, text });
        }
    }
}

/// The files that only exist in tests: `#[cfg(test)] mod name;` in one of `sources`, and all below it.
pub fn test_files(sources: &[Source]) -> HashSet<String> {
    let mut prefixes = Vec::new();
    for source in sources {
        let code = blank_literals(&source.text);
        let folder = match source.path.strip_suffix("/mod.rs").or(source.path.strip_suffix("/lib.rs")) {
            Some(folder) => folder,
            None => source.path.trim_end_matches(".rs"),
        };
        for (start, end) in test_items(&code) {
            let words: Vec<&str> = tokens(&code[start..end]).iter().map(|token| token.text).collect();
            if let [.., "mod", name, ";"] = words[..] {
                prefixes.push(format!("{folder}/{name}"));
            }
        }
    }
    let is_below = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let paths = sources.iter().map(|source| source.path.clone());
    paths.filter(|path| prefixes.iter().any(|prefix| is_below(path, prefix))).collect()
}

/// Rust code with comments and the contents of literals as spaces: same lines, same columns (in bytes).
pub fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at..] {
            [b'/', b'/', ..] => at + line_length(&bytes[at..]),
            [b'/', b'*', ..] => at + comment_length(&bytes[at..]),
            [b'"', ..] => at + quoted_length(&bytes[at..], b'"'),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => at + raw_length(&bytes[at..]),
            [b'b' | b'c', b'r', b'"' | b'#', ..] if !is_word(bytes, at) => {
                at + 1 + raw_length(&bytes[at + 1..])
            }
            [b'\'', b'\\', ..] | [b'\'', _, b'\'', ..] => at + quoted_length(&bytes[at..], b'\''),
            [b'\'', first, ..] if first >= 0x80 => at + quoted_length(&bytes[at..], b'\''),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters are replaced")
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())
}

fn comment_length(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn quoted_length(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The length of `r#"..."#`, or 0 when it is none (a raw word such as `r#type`).
fn raw_length(bytes: &[u8]) -> usize {
    let hashes = bytes[1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &bytes[2 + hashes..];
    let length = body.windows(close.len()).position(|window| window == close).map(|at| at + close.len());
    2 + hashes + length.unwrap_or(body.len())
}

/// Code as [`blank_literals`] gives it, with everything under `#[cfg(test)]` as spaces too.
pub fn blank_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (start, end) in test_items(code) {
        for byte in out[start..end].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
    }
    String::from_utf8(out).expect("code without literals is cut at ASCII")
}

/// Start and end of each item under `#[cfg(test)]`, the attribute included.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    let (mut items, mut from) = (Vec::new(), 0);
    while let Some(start) = code[from..].find(MARK).map(|at| from + at) {
        let (mut depth, mut end) = (0, code.len());
        for (at, byte) in code.bytes().enumerate().skip(start + MARK.len()) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        items.push((start, end));
        from = end;
    }
    items
}

/// The words and signs of code without literals.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let sign = rest.chars().next().map_or(0, char::len_utf8);
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                sign
            };
            found.push(Token { text: &rest[..length], line: number + 1 });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// A path as it is written, group imports taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub struct NamedPath<'a> {
    pub line: usize,
    pub segments: Vec<&'a str>,
}

/// All paths in `tokens`, single words included.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<NamedPath<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        at = if is_name(tokens[at].text) { path(tokens, at, Vec::new(), &mut found) } else { at + 1 };
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one path from `at` on behind `start`; returns where it ends. Nested groups are bounded by what rustc reads.
fn path<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    start: Vec<&'a str>,
    found: &mut Vec<NamedPath<'a>>,
) -> usize {
    let line = tokens[at].line;
    let mut segments = start;
    while at < tokens.len() && (is_name(tokens[at].text) || tokens[at].text == "*") {
        segments.push(tokens[at].text);
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "{") {
            at += 1;
            while at < tokens.len() && tokens[at].text != "}" {
                at = match tokens[at].text {
                    "as" => at + 2,
                    text if is_name(text) || text == "*" => path(tokens, at, segments.clone(), found),
                    _ => at + 1,
                };
            }
            return at + 1;
        }
    }
    found.push(NamedPath { line, segments });
    at
}
