//! What functions ask the host for: settings, secrets, HTTP, other functions, memory that calls share.

use crate::abi;
use crate::call::{Call, Error, Result};
use crate::emit::put_counted;
use crate::json::Json;

const CLOCK: i32 = 3;
const RANDOM: i32 = 4;
const CONFIG: i32 = 5;
const SECRET: i32 = 6;
const HTTP: i32 = 7;
const CALL: i32 = 8;
const CACHE_GET: i32 = 9;
const CACHE_PUT: i32 = 10;

/// An HTTP request. `Request::default()` is a GET without headers.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// GET where it is empty.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The host's own where it is 0.
    pub timeout_ms: i64,
}

/// The answer to a [`Request`], whatever its status. Names of headers are in lower case.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Call {
    /// The time, in nanoseconds since 1970. The standard library has no clock for this target.
    pub fn unix_nanos(&mut self) -> i64 {
        ask(CLOCK, &[]).ok().and_then(|b| b.try_into().ok()).map_or(0, i64::from_le_bytes)
    }

    /// Fills b with random bytes.
    pub fn random(&mut self, b: &mut [u8]) -> Result<()> {
        for piece in b.chunks_mut(1 << 16) {
            let reply = ask(RANDOM, &(piece.len() as u32).to_le_bytes())?;
            if reply.len() != piece.len() {
                return Err(unreadable());
            }
            piece.copy_from_slice(&reply);
        }
        Ok(())
    }

    /// A setting of the version (`wattle push --config`).
    pub fn config(&mut self, name: &str) -> Option<String> {
        ask(CONFIG, name.as_bytes()).ok().map(|v| String::from_utf8_lossy(&v).into_owned())
    }

    /// The value of a secret. The version needs a grant for it: `wattle push --allow-secret`. The error's [`reason`](Error::reason) is "capability_denied" where it has
    /// none, and "unknown_secret" where there is no such secret.
    pub fn secret(&mut self, name: &str) -> Result<Vec<u8>> {
        ask(SECRET, name.as_bytes())
    }

    /// Makes an HTTP request. The version needs a grant for its host and method: `wattle push --allow-http`. Where it is refused, the
    /// error's [`reason`](Error::reason) says why.
    pub fn http(&mut self, request: &Request) -> Result<Response> {
        let headers = request.headers.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
        let head = Json::object([
            ("method", Json::from(request.method.as_str())),
            ("url", request.url.as_str().into()),
            ("headers", Json::Object(headers)),
            ("timeout_ms", request.timeout_ms.into()),
        ]);
        let (head, body) = behead(&ask(HTTP, &headed(&head, &request.body))?)?;
        let headers = match head.get("headers") {
            Json::Object(all) => all.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_string())).collect(),
            _ => Vec::new(),
        };
        Ok(Response { status: head.get("status").as_i64().unwrap_or(0) as u16, headers, body })
    }

    /// Calls a function of a service, by its default version where version is "". The version needs a grant for it:
    /// `wattle push --allow-call`.
    pub fn call(&mut self, service: &str, version: &str, function: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let head = Json::object([("service", service), ("version", version), ("function", function)]);
        ask(CALL, &headed(&head, payload))
    }

    /// Reads the memory that the functions of the service share on a node (`wattle push --allow-cache`), and answers a value and its
    /// version. An entry that is not there has the version 0.
    pub fn cache_get(&mut self, key: &str) -> Result<(Vec<u8>, u64)> {
        let reply = ask(CACHE_GET, key.as_bytes())?;
        let version = reply.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(unreadable)?;
        Ok((reply[8..].to_vec(), version))
    }

    /// Sets an entry, for a time where ttl_ms is not 0.
    pub fn cache_put(&mut self, key: &str, value: &[u8], ttl_ms: i64) -> Result<()> {
        cache_put(key, value, ttl_ms, None).map(|_| ())
    }

    /// Removes an entry.
    pub fn cache_remove(&mut self, key: &str) -> Result<()> {
        cache_put(key, &[], -1, None).map(|_| ())
    }

    /// Sets an entry if its version is still expect (0: there is none), and answers the version there is then, and whether it was set.
    pub fn cache_swap(&mut self, key: &str, value: &[u8], ttl_ms: i64, expect: u64) -> Result<(u64, bool)> {
        cache_put(key, value, ttl_ms, Some(expect))
    }
}

fn cache_put(key: &str, value: &[u8], ttl_ms: i64, expect: Option<u64>) -> Result<(u64, bool)> {
    let expect = expect.map_or(Json::Null, |v| Json::Number(v.to_string()));
    let head = Json::object([("key", Json::from(key)), ("ttl_ms", ttl_ms.into()), ("expect", expect)]);
    let reply = ask(CACHE_PUT, &headed(&head, value))?;
    let version = reply.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(unreadable)?;
    Ok((version, reply.get(8) == Some(&1)))
}

/// Makes a request of the host.
fn ask(op: i32, request: &[u8]) -> Result<Vec<u8>> {
    let (reply, code) = abi::ask(op, request);
    if code >= 0 {
        return Ok(reply);
    }
    if code == -1 {
        return Err(Error::refused("unknown_operation", format_args!("this host does not know operation {}", op)));
    }
    let err = Json::parse(&reply)?;
    Err(Error::refused(err.get("reason").as_str().unwrap_or(""), err.get("message").as_str().unwrap_or("")))
}

/// A request of JSON and bytes.
fn headed(head: &Json, body: &[u8]) -> Vec<u8> {
    let mut b = Vec::new();
    put_counted(&mut b, head.to_string().as_bytes());
    b.extend_from_slice(body);
    b
}

pub(crate) fn behead(b: &[u8]) -> Result<(Json, Vec<u8>)> {
    let mut n = 0usize;
    for (i, c) in b.iter().enumerate().take(5) {
        n |= usize::from(c & 0x7f) << (7 * i);
        if *c < 0x80 {
            let head = b.get(i + 1..i + 1 + n).ok_or_else(unreadable)?;
            return Ok((Json::parse(head)?, b[i + 1 + n..].to_vec()));
        }
    }
    Err(unreadable())
}

fn unreadable() -> Error {
    Error::new("the host's reply cannot be read")
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, Ask, Refusal};
    use crate::{Call, Json, Request, Result};

    fn all(call: &mut Call, _: Vec<u8>) -> Result<String> {
        let setting = call.config("currency");
        let request = Request { url: "https://example.com".into(), headers: vec![("x-a".into(), "b".into())], body: vec![b'x'; 300], ..Request::default() };
        let response = call.http(&request)?;
        let called = call.call("prices", "", "get", b"payload")?;
        let (_, none) = call.cache_get("k")?;
        let (version, set) = call.cache_swap("k", b"v", 1000, 0)?;
        let swapped = call.cache_swap("k", b"w", 0, 0)?;
        let (value, _) = call.cache_get("k")?;
        call.cache_remove("k")?;
        Ok(format!(
            "{:?} {} {:?} {:?} {:?} {} {} {} {:?} {:?}",
            setting, response.status, response.headers, response.body, called, none, version, set, swapped, value
        ))
    }

    #[test]
    fn clock_and_random_numbers_need_no_grant() {
        fn both(call: &mut Call, _: Vec<u8>) -> Result<String> {
            let mut b = [0; 70_000];
            call.random(&mut b)?;
            Ok(format!("{} {}", call.unix_nanos() > 1_600_000_000_000_000_000, b[69_990..] != [0; 10]))
        }
        assert_eq!(testing::call(both, "").unwrap(), b"true true");
    }

    fn denied(call: &mut Call, _: Vec<u8>) -> Result<String> {
        let http = call.http(&Request::default()).map(|_| ()).unwrap_err();
        let cache = call.cache_put("k", b"v", 0).unwrap_err();
        Ok(format!("{:?} {} {}", call.config("x"), http.reason(), cache.reason()))
    }

    #[test]
    fn secrets_are_granted_and_denied() {
        fn secret(call: &mut Call, name: String) -> Result<Vec<u8>> {
            call.secret(&name).or_else(|err| Ok(err.reason().into()))
        }
        assert_eq!(testing::call(secret, "key").unwrap(), b"capability_denied");
        testing::grant_secrets(&[("key", "hush"), ("empty", "")]);
        assert_eq!(testing::call(secret, "key").unwrap(), b"hush");
        assert_eq!(testing::call(secret, "empty").unwrap(), b"");
        assert_eq!(testing::call(secret, "other").unwrap(), b"unknown_secret");
    }

    #[test]
    fn is_granted_and_denied() {
        assert_eq!(testing::call(denied, "").unwrap(), b"None capability_denied capability_denied");
        testing::grant(|ask| match ask {
            Ask::Config(name) => Ok(format!("<{}>", name).into_bytes()),
            Ask::Http { head, body } => {
                assert_eq!(head.get("headers"), &Json::object([("x-a", "b")]));
                let status = Json::from(200 + body.len() as i64);
                Ok(testing::headed(&Json::object([("status", status), ("headers", Json::object([("a", "b")]))]), b"ok"))
            }
            Ask::Call { head, body } => Ok([head.get("function").as_str().unwrap().as_bytes(), body].concat()),
            Ask::Other(..) => Err(Refusal { reason: "no".into(), message: "no".into() }),
        });
        testing::grant_cache();
        let got = String::from_utf8(testing::call(all, "").unwrap()).unwrap();
        assert_eq!(got, r#"Some("<currency>") 500 [("a", "b")] [111, 107] [103, 101, 116, 112, 97, 121, 108, 111, 97, 100] 0 1 true (1, false) [118]"#);
    }
}
