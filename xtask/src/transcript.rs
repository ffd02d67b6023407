//! What a machine said on a serial line, for a person's eyes.

/// How the loader's own lines begin; see `say!` in the loader.
const LOADER: &str = "underlay: ";
/// What the loader's last line holds when the hypervisor runs.
const SUCCESS: &str = " runs beneath this machine: ";

/// Takes out the sequences that would move a terminal's cursor, as firmware
/// writes them. A sequence may be cut anywhere between two pieces of text.
#[derive(Default)]
pub struct Plain {
    in_sequence: bool,
}

impl Plain {
    /// What of `bytes` is text.
    pub fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let texts = bytes.iter().copied().filter(|&byte| self.is_text(byte));
        texts.collect()
    }

    /// A sequence ends with its first letter.
    fn is_text(&mut self, byte: u8) -> bool {
        let was_in_sequence = self.in_sequence;
        self.in_sequence = match was_in_sequence {
            true => !byte.is_ascii_alphabetic(),
            false => byte == 0x1b,
        };
        !was_in_sequence && !self.in_sequence
    }
}

/// The last `count` lines of a transcript, after a colon, or a full stop if
/// there are none.
pub fn tail(transcript: &[u8], count: usize) -> String {
    let text = plain(transcript);
    let lines = text.lines().map(str::trim_end);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return ", which is empty.".to_owned();
    }
    let from = lines.len().saturating_sub(count);
    format!(", which ends so:\n    {}", lines[from..].join("\n    "))
}

/// What the loader said on the console, if it did not start the hypervisor.
pub fn refusal(console: &[u8]) -> Option<String> {
    let text = plain(console);
    if text.contains(SUCCESS) {
        return None;
    }
    let said = text.lines().filter_map(|line| line.strip_prefix(LOADER));
    let said: Vec<&str> = said.map(str::trim_end).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// `transcript` without what is not text.
fn plain(transcript: &[u8]) -> String {
    let bytes = Plain::default().filter(transcript);
    let text = String::from_utf8_lossy(&bytes);
    let is_shown = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(is_shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_plain_text() {
        let transcript = b"one\r\n\x1b[2J\x1b[01;01Htwo\r\n\r\n";
        assert_eq!(tail(transcript, 1), ", which ends so:\n    two");
        assert_eq!(tail(b"", 1), ", which is empty.");
    }

    #[test]
    fn a_sequence_may_arrive_in_pieces() {
        let mut plain = Plain::default();
        assert_eq!(plain.filter(b"a\x1b[0"), b"a");
        assert_eq!(plain.filter(b"1;02"), b"");
        assert_eq!(plain.filter(b"Hb\r\n"), b"b\r\n");
    }

    #[test]
    fn the_loaders_refusal_is_found() {
        let refused = b"\x1b[2Junderlay: two CPUs\r\nunderlay: going on\r\nLinux\r\n";
        assert_eq!(refusal(refused).unwrap(), "two CPUs; going on");
        let running = b"underlay: a typo\r\nUnderlay 0.1 runs beneath this machine: AMD\r\n";
        assert_eq!(refusal(running), None);
        assert_eq!(refusal(b"Linux\r\n"), None);
    }
}
