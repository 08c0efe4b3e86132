//! From the bytes that a terminal sends to keys. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C, which a raw terminal sends as any other.
    Interrupt,
}

/// All keys in what one read returned. A sequence comes whole; what is unknown is left out.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.as_ref();
    let mut keys = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some((key, after)) = sequence(rest) {
            keys.extend(key);
            rest = after;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        keys.extend(match first {
            '\r' | '\n' => Some(Key::Enter),
            '\u{1b}' => Some(Key::Escape),
            '\u{7f}' | '\u{8}' => Some(Key::Backspace),
            '\u{3}' => Some(Key::Interrupt),
            other if other.is_control() => None,
            other => Some(Key::Character(other)),
        });
    }
    keys
}

/// `ESC [ … letter` or `ESC O letter`: the key that it stands for, if we know it, and what comes after it.
fn sequence(text: &str) -> Option<(Option<Key>, &str)> {
    let body = text.strip_prefix("\u{1b}[").or_else(|| text.strip_prefix("\u{1b}O"))?;
    let end = body.find(|c: char| c.is_ascii_alphabetic() || c == '~')?;
    let (sequence, after) = body.split_at(end + 1);
    let key = match sequence {
        "A" => Some(Key::Up),
        "B" => Some(Key::Down),
        "H" | "1~" | "7~" => Some(Key::Home),
        "F" | "4~" | "8~" => Some(Key::End),
        "5~" => Some(Key::PageUp),
        "6~" => Some(Key::PageDown),
        _ => None,
    };
    Some((key, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_one_key_each() {
        let typed = keys(b"c\x1b[A\x1bOB\x1b[6~\x1b[1;5C/\xc3\xa9\x7f\r\x1b\x03");
        let expected = [
            Key::Character('c'),
            Key::Up,
            Key::Down,
            Key::PageDown,
            Key::Character('/'),
            Key::Character('é'),
            Key::Backspace,
            Key::Enter,
            Key::Escape,
            Key::Interrupt,
        ];
        assert_eq!(typed, expected);
    }
}
