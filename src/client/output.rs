//! How messages are printed: payload only, with `-v`, or with `-F`.
use super::calendar::Calendar;
use super::format::{Format, NotJson};
use super::options::Target;
use crate::codec::Publish;
use std::io::{self, Write};
use std::time::SystemTime;

/// The flags that say how messages are printed.
#[derive(clap::Args, Debug)]
pub(super) struct OutputArgs {
    /// Print messages in this format, made of %t (topic), %p (payload), %q (QoS), %r (retain), %l (length), %m (packet identifier), %x %X (payload in hexadecimal), %j %J (JSON with the payload as a string, as JSON), %I (date and time), %U (Unix time), of the properties %A (topic alias), %C (content type), %D (correlation data), %E (message expiry), %F (payload format), %P (user properties), %R (response topic), %S (subscription identifier), of @ and a letter of strftime (UTC), and of \n, \t, \0, \e and so on
    #[arg(short = 'F', value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
    /// Print the topic before the payload
    #[arg(short = 'v', long = "verbose")]
    verbose: bool,
    /// Print no line end behind a message
    #[arg(short = 'N')]
    no_line_end: bool,
    /// Spread JSON (%j, %J) over lines
    #[arg(long = "pretty")]
    pretty: bool,
}

impl OutputArgs {
    /// Prints the message and flushes. An error means that nobody reads standard output any more.
    pub(super) fn print(&self, publish: &Publish<'_>, target: &Target) -> io::Result<()> {
        let text = match self.render(publish, SystemTime::now()) {
            Ok(text) => text,
            Err(NotJson) => {
                target.complain(&format!(
                    "Error: Message payload is not valid JSON on topic {}.",
                    publish.topic
                ));
                return Ok(());
            }
        };
        let mut out = io::stdout().lock();
        out.write_all(&text)?;
        out.flush()
    }

    fn render(&self, publish: &Publish<'_>, now: SystemTime) -> Result<Vec<u8>, NotJson> {
        let mut text = match &self.format {
            Some(format) => format.render(publish, &Calendar::new(now), self.pretty)?,
            // An empty payload is only worth a line if the line has more.
            None if publish.payload.is_empty() && (!self.verbose || self.no_line_end) => {
                return Ok(Vec::new());
            }
            None if publish.payload.is_empty() => format!("{} (null)", publish.topic).into_bytes(),
            None if self.verbose => [publish.topic.as_bytes(), b" ", publish.payload].concat(),
            None => publish.payload.to_vec(),
        };
        if !self.no_line_end {
            text.push(b'\n');
        }
        Ok(text)
    }
}
