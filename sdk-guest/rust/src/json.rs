use crate::call::{Error, Result};
use std::fmt;

/// A JSON value: as much as small requests need. Functions with more to read may depend on serde_json.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// A number as it is written, so that none loses digits.
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// Members in the order they have.
    Object(Vec<(String, Json)>),
}

static NULL: Json = Json::Null;

impl Json {
    /// Reads JSON.
    pub fn parse(b: &[u8]) -> Result<Json> {
        let text = std::str::from_utf8(b)?;
        let mut p = Parser { text, at: 0 };
        let v = p.value(0)?;
        p.space();
        if p.at < text.len() {
            return Err(p.unexpected());
        }
        Ok(v)
    }

    /// Makes an object.
    pub fn object<V: Into<Json>, const N: usize>(members: [(&str, V); N]) -> Json {
        Json::Object(members.into_iter().map(|(name, v)| (name.to_string(), v.into())).collect())
    }

    /// A member of an object; null where there is none.
    pub fn get(&self, member: &str) -> &Json {
        match self {
            Json::Object(members) => members.iter().rev().find(|(name, _)| name == member).map_or(&NULL, |(_, v)| v),
            _ => &NULL,
        }
    }

    pub fn is_null(&self) -> bool {
        *self == Json::Null
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Number(s) => s.parse().ok(),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(s) => s.parse().ok(),
            _ => None,
        }
    }
}

impl From<&str> for Json {
    fn from(s: &str) -> Json {
        Json::String(s.to_string())
    }
}

impl From<String> for Json {
    fn from(s: String) -> Json {
        Json::String(s)
    }
}

impl From<i64> for Json {
    fn from(n: i64) -> Json {
        Json::Number(n.to_string())
    }
}

impl From<bool> for Json {
    fn from(b: bool) -> Json {
        Json::Bool(b)
    }
}

/// Writes JSON.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{}", b),
            Json::Number(n) => f.write_str(n),
            Json::String(s) => write_string(f, s),
            Json::Array(all) => {
                for (i, v) in all.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "[" } else { "," }, v)?;
                }
                f.write_str(if all.is_empty() { "[]" } else { "]" })
            }
            Json::Object(members) => {
                for (i, (name, v)) in members.iter().enumerate() {
                    f.write_str(if i == 0 { "{" } else { "," })?;
                    write_string(f, name)?;
                    write!(f, ":{}", v)?;
                }
                f.write_str(if members.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter, s: &str) -> fmt::Result {
    f.write_str("\"")?;
    let mut done = 0;
    for (i, c) in s.bytes().enumerate() {
        if c >= 0x20 && c != b'"' && c != b'\\' {
            continue;
        }
        f.write_str(&s[done..i])?;
        done = i + 1;
        match c {
            b'"' | b'\\' => write!(f, "\\{}", c as char)?,
            8 => f.write_str("\\b")?,
            9 => f.write_str("\\t")?,
            10 => f.write_str("\\n")?,
            12 => f.write_str("\\f")?,
            13 => f.write_str("\\r")?,
            _ => write!(f, "\\u{:04x}", c)?,
        }
    }
    f.write_str(&s[done..])?;
    f.write_str("\"")
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn unexpected(&self) -> Error {
        match self.text[self.at..].chars().next() {
            Some(c) => Error::new(format_args!("unexpected {:?} at byte {}", c, self.at)),
            None => Error::new("it ends too soon"),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn eat(&mut self, what: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(what) {
            return Err(self.unexpected());
        }
        self.at += what.len();
        Ok(())
    }

    fn value(&mut self, depth: u32) -> Result<Json> {
        if depth > 128 {
            return Err(Error::new("it is nested too deeply"));
        }
        self.space();
        match self.peek() {
            b'n' => self.eat("null").map(|()| Json::Null),
            b't' => self.eat("true").map(|()| Json::Bool(true)),
            b'f' => self.eat("false").map(|()| Json::Bool(false)),
            b'"' => Ok(Json::String(self.string()?)),
            b'[' => {
                let mut all = Vec::new();
                self.list(b']', |p| {
                    all.push(p.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Json::Array(all))
            }
            b'{' => {
                let mut members = Vec::new();
                self.list(b'}', |p| {
                    p.space();
                    let name = p.string()?;
                    p.space();
                    p.eat(":")?;
                    members.push((name, p.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            _ => self.number(),
        }
    }

    fn list(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.at += 1;
        self.space();
        if self.peek() == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.space();
            self.at += 1;
            match self.text.as_bytes().get(self.at - 1) {
                Some(b',') => {}
                Some(&c) if c == end => return Ok(()),
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            }
        }
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == from {
            return Err(self.unexpected());
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json> {
        let from = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(self.text[from..self.at].to_string()))
    }

    fn string(&mut self) -> Result<String> {
        self.eat("\"")?;
        let mut s = String::new();
        loop {
            let rest = &self.text[self.at..];
            let n = rest.bytes().position(|c| c < 0x20 || c == b'"' || c == b'\\').unwrap_or(rest.len());
            s.push_str(&rest[..n]);
            self.at += n;
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(s);
                }
                b'\\' => s.push(self.escape()?),
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        self.at += 1;
        let c = match self.peek() {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            c @ (b'"' | b'\\' | b'/') => c as char,
            b'u' => {
                self.at += 1;
                let mut c = self.hex()?;
                if (0xd800..0xdc00).contains(&c) && self.text[self.at..].starts_with("\\u") {
                    let here = self.at;
                    self.at += 2;
                    match self.hex()? {
                        low @ 0xdc00..=0xdfff => c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00),
                        _ => self.at = here,
                    }
                }
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|s| s.bytes().all(|c| c.is_ascii_hexdigit()));
        let v = digits.and_then(|s| u32::from_str_radix(s, 16).ok()).ok_or_else(|| self.unexpected())?;
        self.at += 4;
        Ok(v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_json() {
        let text = r#" {"a": [1, -2.5e+3, true, false, null, {}], "b": "x\"\\\/\b\f\n\r\té€😀\ud83d\ude00\ud83d.", "": []} "#;
        let v = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(v.get("b").as_str(), Some("x\"\\/\u{8}\u{c}\n\r\té€😀😀\u{fffd}."));
        assert_eq!(v.to_string(), r#"{"a":[1,-2.5e+3,true,false,null,{}],"b":"x\"\\/\b\f\n\r\té€😀😀�.","":[]}"#);
        assert!(v.get("c").is_null() && v.get("b").get("c").is_null());
        assert_eq!(Json::parse(b"9007199254740993").unwrap().as_i64(), Some(9007199254740993));
        assert_eq!(Json::parse(b"2.5").unwrap().as_f64(), Some(2.5));
        assert_eq!(Json::from("\u{1}").to_string(), "\"\\u0001\"");
    }

    #[test]
    fn refuses_what_is_not() {
        let broken = [
            "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1,}", "{a:1}", "01", "-", "1.", "1e", ".5", "nul", "tru",
            "\"", "\"\n\"", "\"\\x\"", "\"\\u12\"", "\"\\u+123\"", "1 2", "[1}", "é", "\"\\ud800\\u12\"",
        ];
        for text in broken {
            assert!(Json::parse(text.as_bytes()).is_err(), "{:?}", text);
        }
        assert!(Json::parse(&[0xff]).is_err());
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
