//! The headers of a tar archive: ustar, with pax records for what does not fit; GNU's long names are read too.

use std::io::{self, Read, Write};

pub(super) const BLOCK: usize = 512;
/// The most that is read of one extension: far above any path.
const LONGEST_EXTENSION: u64 = 64 << 10;
/// The largest number that eleven octal digits hold.
const LARGEST_OCTAL: u64 = 0o777_7777_7777;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device, a pipe, or what nobody knows.
    Other,
}

/// One entry's head. Its content, `size` bytes, follows, filled up to a whole block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) size: u64,
    /// Where a link leads.
    pub(super) link: Vec<u8>,
}

pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

// === writing ===

pub(super) fn write(out: &mut impl Write, header: &Header) -> io::Result<()> {
    let mut records = Vec::new();
    if header.name.len() > 100 {
        record(&mut records, "path", &header.name);
    }
    if header.link.len() > 100 {
        record(&mut records, "linkpath", &header.link);
    }
    if header.size > LARGEST_OCTAL {
        record(&mut records, "size", header.size.to_string().as_bytes());
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        out.write_all(&block(b"pax", &[], b'x', 0o644, 0, size))?;
        out.write_all(&records)?;
        io::copy(&mut io::repeat(0).take(padding(size)), out)?;
    }
    let kind = match header.kind {
        Kind::File | Kind::Other => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Directory => b'5',
    };
    out.write_all(&block(&header.name, &header.link, kind, header.mode, header.modified, header.size))
}

/// The end of an archive.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()
}

fn block(name: &[u8], link: &[u8], kind: u8, mode: u32, modified: u64, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, longest: usize, bytes: &[u8]| {
        let length = bytes.len().min(longest);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(0, 100, name);
    put(100, 8, format!("{:07o}", mode & 0o7777).as_bytes());
    put(108, 8, b"0000000");
    put(116, 8, b"0000000");
    put(124, 12, format!("{:011o}", size.min(LARGEST_OCTAL)).as_bytes());
    put(136, 12, format!("{:011o}", modified.min(LARGEST_OCTAL)).as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// `<length> <name>=<value>\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, name: &str, value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {name}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

// === reading ===

/// The next entry's head, or `None` at the end.
pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Header>> {
    let (mut name, mut link, mut long_size) = (None, None, None);
    loop {
        let mut block = [0; BLOCK];
        if !fill(input, &mut block)? || block == [0; BLOCK] {
            return Ok(None);
        }
        check(&block)?;
        let mut size = number(&block[124..136])?;
        match block[156] {
            b'x' => {
                let extension = extension(input, size)?;
                for (key, value) in records(&extension)? {
                    match key {
                        b"path" => name = Some(value.to_vec()),
                        b"linkpath" => link = Some(value.to_vec()),
                        b"size" => {
                            let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                            long_size = Some(size.ok_or_else(damaged)?);
                        }
                        _ => {}
                    }
                }
            }
            b'g' => drop(extension(input, size)?),
            b'L' => name = Some(text(&extension(input, size)?).to_vec()),
            b'K' => link = Some(text(&extension(input, size)?).to_vec()),
            kind => {
                size = long_size.unwrap_or(size);
                let kind = match kind {
                    b'0' | b'7' | 0 => Kind::File,
                    b'1' => Kind::HardLink,
                    b'2' => Kind::Symlink,
                    b'5' => Kind::Directory,
                    _ => Kind::Other,
                };
                let mode = number(&block[100..108])? & 0o7777;
                return Ok(Some(Header {
                    name: name.unwrap_or_else(|| short_name(&block)),
                    kind,
                    mode: u32::try_from(mode).unwrap_or(0),
                    modified: number(&block[136..148]).unwrap_or(0),
                    // Some archives give links the size of what they lead to, without any content.
                    size: if kind == Kind::File || kind == Kind::Other { size } else { 0 },
                    link: link.unwrap_or_else(|| text(&block[157..257]).to_vec()),
                }));
            }
        }
    }
}

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no tar archive, or a damaged one")
}

/// The name, with ustar's prefix.
fn short_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// False if the input is at its end.
fn fill(input: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(damaged()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn check(block: &[u8; BLOCK]) -> io::Result<()> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    if number(&block[148..156])? == sum { Ok(()) } else { Err(damaged()) }
}

fn extension(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > LONGEST_EXTENSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a name in the archive is too long"));
    }
    let mut content = Vec::new();
    let whole = size + padding(size);
    if input.take(whole).read_to_end(&mut content)? as u64 != whole {
        return Err(damaged());
    }
    content.truncate(usize::try_from(size).unwrap_or(0));
    Ok(content)
}

fn records(mut extension: &[u8]) -> io::Result<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !extension.is_empty() {
        let space = extension.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
        let length = std::str::from_utf8(&extension[..space]).ok().and_then(|length| length.parse().ok());
        let length: usize = length.ok_or_else(damaged)?;
        let record = extension.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
        let record = record.ok_or_else(damaged)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
        records.push((&record[..equals], &record[equals + 1..]));
        extension = &extension[length..];
    }
    Ok(records)
}

/// Up to the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, or GNU's binary form.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len().saturating_sub(8).max(1));
        if high[0] != 0x80 || high[1..].iter().any(|byte| *byte != 0) {
            return Err(damaged());
        }
        return Ok(low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let digits = std::str::from_utf8(text(field)).map_err(|_| damaged())?.trim_matches(' ');
    if digits.is_empty() { Ok(0) } else { u64::from_str_radix(digits, 8).map_err(|_| damaged()) }
}
