//! The reference of the settings and the sample file, made from the flags themselves.
use super::ServeArgs;
use super::keys::{Keys, default_of, is_switch, takes_list, variable};
use super::own::{listener_keys, user_keys};
use clap::Arg;
use std::fmt::Write;

/// Where the reference says what holds for all settings.
const INTRODUCTION: &str = "\
# Configuration

<!-- Made by `ringmq config reference`; a test compares. Change the flags in src/config, not this file. -->

The broker needs no configuration. What is to differ from the defaults is said in one of three ways, the first
outweighing the next:

1. a flag of `ringmq serve`, like `--max-packet 64K`;
2. an environment variable, like `RINGMQ_MAX_PACKET=64K`; lists are separated by commas, switches are `true` or `false`;
3. a configuration file in [TOML](https://toml.io), like `max-packet = \"64K\"`, named by `--config FILE` or
   `RINGMQ_CONFIG`.

Sizes are bytes or have a unit (`K`, `M`, `G`: powers of 1024); times have one (`ms`, `s`, `m`, `h`, `d`) or are
seconds. An unknown key or a value that cannot be is refused with its line; nothing is skipped.

Most limits can be other ones for a listener or for a user, see the tables at the end.

`ringmq config check FILE` says what a file comes to, where each setting is from, and how much memory its bounds add up
to. `ringmq config sample` prints a file with every key.

SIGHUP makes a running broker read the file again. Limits and the rules of listeners (certificates included)
change at once, for new connections where they are about connecting; a line on standard error names what changes with the
next start only: threads and addresses. What a client was told when it connected holds for it until it connects anew. A mistake changes nothing. Files of
certificates are looked at every two seconds and read again when they changed, and so is the ban file.
";

const LISTENERS: &str = "\
## `[[listener]]`

Each such table is one more place to listen, with settings of its own. With one of them, and no `listen` anywhere, the
default address is not listened on. A limit that a table does not name is that of the whole broker.
";

const USERS: &str = "\
## `[[user]]`

Limits of users, by their verified names (of the password file, a certificate, a token, ...): key by key, what a table
says of a user outweighs what is said of the listener by which the client comes, and that what is said for the whole
broker. What the client is told in CONNACK is what holds for it. Until the user is known (and for CONNECT itself) the
limits of the listener hold. A session whose client is away keeps the limits of its last connection; after a start of the
broker with a data directory it has those of its user until its client is back.
";

/// Keys of one kind under their heading, in the order of their first one.
fn grouped(keys: &Keys) -> Vec<(&str, Vec<(&str, &Arg)>)> {
    let mut groups: Vec<(&str, Vec<(&str, &Arg)>)> = Vec::new();
    for (key, arg) in keys.iter().filter(|(_, arg)| !arg.is_hide_set()) {
        let heading = arg.get_help_heading().unwrap_or("Shards");
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, members)) => members.push((key, arg)),
            None => groups.push((heading, vec![(key, arg)])),
        }
    }
    groups
}

fn help(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let text = text.replace('\n', " ");
    let values: Vec<String> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    match values.is_empty() || is_switch(arg) {
        true => text,
        false => format!("{text}: {}", values.join(", ")),
    }
}

fn table(out: &mut String, keys: &[(&str, &Arg)], with_variable: bool) {
    let _ = writeln!(out, "| key | default | meaning |\n| --- | --- | --- |");
    for (key, arg) in keys {
        let default = default_of(arg).map_or(String::new(), |default| format!("`{default}`"));
        let variable = if with_variable { format!("<br>`{}`", variable(key)) } else { String::new() };
        let list = if takes_list(arg) { " (a list)" } else { "" };
        let _ = writeln!(out, "| `{key}`{variable} | {default} | {}{list} |", help(arg).replace('|', "\\|"));
    }
    let _ = writeln!(out);
}

/// `docs/CONFIG.md`.
pub fn reference() -> String {
    let mut out = format!("{INTRODUCTION}\n");
    for (heading, members) in grouped(&Keys::of::<ServeArgs>()) {
        let _ = writeln!(out, "## {heading}\n");
        table(&mut out, &members, true);
    }
    for (keys, introduction) in [(listener_keys(), LISTENERS), (user_keys(), USERS)] {
        let _ = writeln!(out, "{introduction}");
        for (heading, members) in grouped(&keys) {
            if heading != "Shards" {
                let _ = writeln!(out, "### {heading}\n");
            }
            table(&mut out, &members, false);
        }
    }
    format!("{}\n", out.trim_end())
}

fn commented(out: &mut String, keys: &[(&str, &Arg)]) {
    for (key, arg) in keys {
        let value = default_of(arg).unwrap_or_else(|| {
            let names = arg.get_value_names().and_then(<[_]>::first).map_or("VALUE", |name| name.as_str());
            if takes_list(arg) { format!("[\"{names}\"]") } else { format!("\"{names}\"") }
        });
        let _ = writeln!(out, "# {}\n#{key} = {value}\n", help(arg));
    }
}

/// `docs/ringmq.toml`: every key with its default, commented out.
pub fn sample() -> String {
    let mut out = "# ringmq: every setting with its default, or with what it wants where there is none.\n\
                   # docs/CONFIG.md explains where else settings can stand; `ringmq config check` reads this file.\n\n"
        .to_string();
    for (heading, members) in grouped(&Keys::of::<ServeArgs>()) {
        let _ = writeln!(out, "# ---- {heading} ----\n");
        commented(&mut out, &members);
    }
    let _ = writeln!(out, "# ---- One table for each further place to listen ----\n\n#[[listener]]\n");
    for (_, members) in grouped(&listener_keys()) {
        commented(&mut out, &members);
    }
    let _ = writeln!(out, "# ---- One table for users with limits of their own ----\n\n#[[user]]\n");
    for (_, members) in grouped(&user_keys()) {
        commented(&mut out, &members);
    }
    format!("{}\n", out.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    #[test]
    fn the_files_in_docs_are_the_ones_that_are_made() {
        let made = [("docs/CONFIG.md", reference()), ("docs/ringmq.toml", sample())];
        for (name, text) in made {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            let remedy = "write it anew with `ringmq config reference` or `ringmq config sample`";
            assert!(there == text, "{name} is not what the flags say: {remedy}");
        }
    }

    #[test]
    fn every_key_that_has_a_default_can_be_taken_from_the_sample() {
        let text: String = sample()
            .lines()
            .filter(|line| !line.starts_with("# ") && !line.contains("[[listener]]"))
            .take_while(|line| !line.starts_with("#address"))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        // What has no default is shown by the name of its value, which is none.
        let keys = Keys::of::<ServeArgs>();
        let with_default = |line: &&str| {
            line.split_once(" = ")
                .and_then(|(key, _)| keys.get(key))
                .is_some_and(|arg| default_of(arg).is_some())
        };
        let text: String = text.lines().filter(with_default).map(|line| format!("{line}\n")).collect();
        let read = file::parse(&text).map_err(|(line, what)| format!("{line}: {what}\n{text}")).unwrap();
        assert!(read.settings.len() > 20, "{text}");
    }
}
